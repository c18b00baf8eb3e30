"""What vyx and SAELens reach after the same number of tokens of the same activations, by the same
schedule: TopK, explained variance and L0 on rows that neither trained on. Each side has its own
defaults for initialisation and AuxK. Run it with SAELens's environment on what ./vyx demo has
harvested; it decides nothing."""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile

import torch
from safetensors.torch import load_file

from saelens_training import train_topk


def rows(store):
    shards = [load_file(path) for path in sorted(store.glob("shard-*.safetensors"))]
    return torch.cat([
        tensor for shard in shards for name, tensor in shard.items() if tensor.dim() == 2
    ]).float()


def batches(x, count, size):
    """Epochs in random order, the first batch twice (SAELens takes a scale from it)."""
    order = torch.empty(0, dtype=torch.long)
    for step in range(count):
        while len(order) < size:
            order = torch.cat([order, torch.randperm(len(x))])
        batch, order = x[order[:size]], order[size:]
        if step == 0:
            yield batch
        yield batch


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("build/release/bin"))
    parser.add_argument("--store", type=pathlib.Path, default=pathlib.Path("out/demo/store"))
    parser.add_argument("--heldout", type=pathlib.Path, default=pathlib.Path("out/demo/heldout"))
    parser.add_argument("--latents", type=int, default=4608)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[3e-4, 1e-3])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    steps = -(-options.tokens // options.batch)

    def drive(driver, *args):
        command = [options.bin / driver, *args, "--json", "--quiet", "--threads", options.threads]
        return json.loads(
            subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True,
                           check=True).stdout)

    x = rows(options.store)
    site = json.loads(
        (options.store /
         "manifest.json").read_text())["sites"][0]["site"]  # SAELens's file does not say
    print(f"{len(x):,} rows of width {x.shape[1]}, {options.latents} latents, k {options.k},"
          f" {steps * options.batch:,} tokens; on held-out rows:")
    for learning_rate in options.learning_rates:
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = pathlib.Path(folder) / "vyx", pathlib.Path(folder) / "saelens"
            drive("vyx-sae-train", "--activations", options.store, "--architecture", "topk",
                  "--latents", options.latents, "--k", options.k, "--batch", options.batch,
                  "--steps", steps, "--lr", learning_rate, "--out", ours)
            train_topk(batches(x, steps, options.batch), d_in=x.shape[1], latents=options.latents,
                       k=options.k, batches=steps, batch=options.batch, learning_rate=learning_rate,
                       out=theirs)
            for name, sae in (("vyx", ours), ("SAELens", theirs)):
                metrics = drive("vyx-sae-eval", "--sae", sae, "--activations", options.heldout,
                                "--site", site)["metrics"]
                print(
                    f"lr {learning_rate:g}  {name:<8} explained variance"
                    f" {metrics['explained_variance']:.4f}, L0 {metrics['l0']:.1f},"
                    f" dead {metrics['dead_fraction']:.1%}", flush=True)


if __name__ == "__main__":
    main()
