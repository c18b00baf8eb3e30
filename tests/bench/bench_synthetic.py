"""A SynthSAEBench-like world: TopK autoencoders of vyx and of SAELens on the same rows by the same
recipe, and what each found of the planted features. Runs in SAELens's virtual environment; decides
nothing."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch

from saelens_training import train_topk

WIDTH, BATCH = 256, 1024  # as bench_synthetic.cpp has them


def rows(binary, batches):
    """The world's batches, as the C++ side makes them; the first twice, since SAELens takes the
    scale of its inputs from one of its own."""
    with subprocess.Popen([binary, "batches", str(batches)], stdout=subprocess.PIPE) as process:
        for step in range(batches):
            data = process.stdout.read(BATCH * WIDTH * 4)
            batch = torch.from_numpy(np.frombuffer(data,
                                                   dtype=np.float32).copy()).view(BATCH, WIDTH)
            if step == 0:
                yield batch
            yield batch


def run(binary, *args):
    return subprocess.run([binary, *map(str, args)], stdout=subprocess.PIPE, text=True,
                          check=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("build/release/bin"))
    parser.add_argument("--latents", type=int, default=1024)
    parser.add_argument("--k", type=int, default=12)
    parser.add_argument("--batches", type=int, default=1500)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    binary = options.bin / "bench-synthetic"

    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = pathlib.Path(folder) / "vyx", pathlib.Path(folder) / "saelens"
        run(binary, "train", options.latents, options.k, options.batches, options.learning_rate,
            ours)
        train_topk(rows(binary, options.batches), d_in=WIDTH, latents=options.latents, k=options.k,
                   batches=options.batches, batch=BATCH, learning_rate=options.learning_rate,
                   out=theirs)
        results = {
            "vyx": json.loads(run(binary, "evaluate", ours)),
            "SAELens": json.loads(run(binary, "evaluate", theirs))
        }

    names = [
        "mcc", "mmcs", "uniqueness", "precision", "recall", "f1", "explained_variance", "l0",
        "dead_fraction"
    ]
    print(f"4096 features in width {WIDTH}, {options.latents} latents, k {options.k}, "
          f"{options.batches * BATCH:,} rows, learning rate {options.learning_rate:g}, "
          f"true L0 {results['vyx']['true_l0']:.1f}")
    print(f"{'':<10}" + "".join(f"{name:>19}" for name in names))
    for side, figures in results.items():
        print(f"{side:<10}" + "".join(f"{figures[name]:>19.4f}" for name in names), flush=True)


if __name__ == "__main__":
    sys.exit(main())
