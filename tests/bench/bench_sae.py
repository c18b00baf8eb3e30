"""Training steps of vyx beside SAELens's, on the same weights and data, in one run: run it with
SAELens's environment,

    .deps/saelens/bin/python tests/bench/bench_sae.py

Prints ratios beside the goals; decides nothing. --phases shows where vyx's time goes, --scaling
what 4,096 to 65,536 latents cost."""

import argparse
import json
import logging
import pathlib
import statistics
import subprocess
import tempfile
import time
import warnings

import torch

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
D, LATENTS, BATCH, K, ROWS = 576, 9216, 4096, 32, 16384
LEVEL = 2.4  # of z ~ N(0, 1): 75 of 9,216 latents above it
RATES = {"topk": (8, 11), "batch-topk": (8, 11), "relu": (4, 6), "jump-relu": (4, 6)}


def write_case(folder, architecture, latents, rows=ROWS, **more):
    """Random unit decoder rows, tied encoder: z ~ N(0, 1), so that bias or threshold set L0."""
    torch.manual_seed(0)
    decoder = torch.nn.functional.normalize(torch.randn(latents, D), dim=-1)
    tensors = {
        "W_enc": decoder,
        "W_dec": decoder,
        "b_enc": torch.zeros(latents),
        "b_dec": torch.zeros(D),
        "x": torch.randn(rows, D)
    }
    if architecture == "relu":
        tensors["b_enc"] -= LEVEL
    if architecture == "jump-relu":
        tensors["threshold"] = torch.full((latents, ), LEVEL)
    folder.mkdir(exist_ok=True, parents=True)
    for name, tensor in tensors.items():
        tensor.numpy().tofile(folder / f"{name}.f32")
    case = {
        "architecture": architecture,
        "d": D,
        "latents": latents,
        "rows": rows,
        "batch": BATCH,
        "k": K,
        "sparsity": 0.01,
        "bandwidth": 0.05,
        **more
    }
    (folder / "case.json").write_text(json.dumps(case))
    return tensors


def ours(options, folder, *more):
    command = [
        options.bin / "bench-sae", folder, "--threads", options.threads, "--steps", options.steps,
        *more
    ]
    return json.loads(
        subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True, check=True).stdout)


class Peer:
    """SAELens's trainer on the tensors of a case."""
    def __init__(self, architecture, tensors):
        import sae_lens
        from sae_lens.config import LoggingConfig, SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        kind, more = {
            "topk": ("TopK", {
                "k": K,
                "rescale_acts_by_decoder_norm": False
            }),
            "batch-topk": ("BatchTopK", {
                "k": K,
                "rescale_acts_by_decoder_norm": False
            }),
            "relu": ("Standard", {
                "l1_coefficient": 0.01
            }),
            "jump-relu": ("JumpReLU", {
                "l0_coefficient": 0.01,
                "jumprelu_init_threshold": LEVEL
            })
        }[architecture]
        config = getattr(sae_lens,
                         f"{kind}TrainingSAEConfig")(d_in=D, d_sae=tensors["W_dec"].shape[0],
                                                     dtype="float32", device="cpu", **more)
        self.sae = getattr(sae_lens, f"{kind}TrainingSAE")(config)
        with torch.no_grad():
            for name, tensor in tensors.items():
                if name != "x" and hasattr(self.sae, name):
                    getattr(self.sae, name).copy_(tensor.T if name == "W_enc" else tensor)
        self.x, self.next = tensors["x"], 0
        self.trainer = SAETrainer(
            SAETrainerConfig(n_checkpoints=0, checkpoint_path=None, save_final_checkpoint=False,
                             total_training_samples=10**9, device="cpu", autocast=False, lr=0.0,
                             lr_end=0.0, lr_scheduler_name="constant", lr_warm_up_steps=0,
                             adam_beta1=0.9, adam_beta2=0.999, lr_decay_steps=0, n_restart_cycles=1,
                             train_batch_size_samples=BATCH, dead_feature_window=1000,
                             feature_sampling_window=2000,
                             logger=LoggingConfig(log_to_wandb=False)), self.sae, iter(()))

    def step(self):
        batch = self.x[self.next:self.next + BATCH]
        self.next = (self.next + BATCH) % len(self.x)
        start = time.perf_counter()
        output = self.trainer.step(batch)
        self.trainer.n_training_steps += 1
        return time.perf_counter() - start, float((output.feature_acts.to_dense()
                                                   > 0).sum(-1).float().mean())


def compare(options, root):
    print(f"{'training step, d 576, 9,216 latents, batch 4,096':<50}"
          f" {'vyx':>12} {'SAELens':>12} {'ratio':>7}   goal")
    for architecture in options.architectures:
        folder = root / architecture
        tensors = write_case(folder, architecture, LATENTS)
        peer = Peer(architecture, tensors)
        theirs, l0 = zip(*[peer.step() for _ in range(options.peer_steps)])
        del peer
        for bfloat16, goal in zip([False, True], RATES[architecture]):
            case = json.loads((folder / "case.json").read_text())
            (folder / "case.json").write_text(json.dumps({**case, "bfloat16": bfloat16}))
            report = ours(options, folder, *(["--phases"] if options.phases else []))
            label = (f"{architecture}, {'bfloat16 encoder' if bfloat16 else 'float32'},"
                     f" L0 {report['l0']:.0f} ({statistics.mean(l0):.0f})")
            rate, peer_rate = BATCH / min(report["steps"]), BATCH / min(theirs)
            print(
                f"{label:<50} {rate:>6,.0f} tok/s {peer_rate:>6,.0f} tok/s"
                f" {rate / peer_rate:>6.1f}x   >= {goal}x", flush=True)
            allowed = 4 * report["parameter_bytes"] + report["data_bytes"]
            print(
                f"    peak {report['peak_bytes'] / 2**20:,.0f} MiB,"
                f" of 4 x parameters + data {allowed / 2**20:,.0f} MiB;"
                f" gradients {report['loss_and_gradients'] * 1e3:.0f} ms,"
                f" Adam {report['update'] * 1e3:.0f} ms", flush=True)
            if options.phases:
                print(
                    "    " + ", ".join(f"{name} {value * 1e3:.1f} ms"
                                       for name, value in report["phases"].items()), flush=True)


def scaling(options, root):
    for latents in (4096, 16384, 65536):
        folder = root / f"topk-{latents}"
        write_case(folder, "topk", latents, rows=BATCH)
        report = ours(options, folder, *(["--phases"] if options.phases else []))
        best = min(report["steps"])
        allowed = 4 * report["parameter_bytes"] + report["data_bytes"]
        print(
            f"topk, float32, {latents:>6,} latents: {BATCH / best:>7,.0f} tok/s,"
            f" {best / latents * 1e6:.1f} us per latent,"
            f" peak {report['peak_bytes'] / allowed:.2f} x (4 x parameters + data)", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("build/release/bin"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--peer-steps", type=int, default=3)
    parser.add_argument("--architectures", nargs="*", default=list(RATES), choices=list(RATES))
    parser.add_argument("--phases", action="store_true")
    parser.add_argument("--scaling", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as root:
        (scaling if options.scaling else compare)(options, pathlib.Path(root))


if __name__ == "__main__":
    main()
