"""./vyx bench: vyx beside Hugging Face transformers and repeng, in one run on one machine. Prints
ratios; decides nothing."""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")
GGUF = pathlib.Path(".deps/models/smollm2.gguf").resolve()
PROMPT = "Tell me a story about a fox."
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def driver(folder, name, *args):
    result = subprocess.run([str(folder / name), *map(str, args), "--json"], stdout=subprocess.PIPE,
                            text=True, check=True)
    return json.loads(result.stdout)


def seconds(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def row(what, ours, theirs, ratio, goal):
    print(f"{what:<44} {ours:>16} {theirs:>22} {ratio:>10}   goal {goal}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("build/release/bin"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48)
    options = parser.parse_args()

    import bench_vector
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    threads = ("--threads", options.threads)

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model_path, vector_path = folder / "smollm2.pt", folder / "happy.gguf"
        print(f"{'what':<44} {'vyx':>16} {'peer':>22} {'ratio':>10}")

        load_seconds, (hf, tokenizer) = seconds(lambda: bench_vector.load_gguf(GGUF))
        import_seconds, _ = seconds(
            lambda: driver(options.bin, "vyx-import", GGUF, "--out", model_path, *threads))
        row("import of the GGUF, whole process", f"{import_seconds:.1f} s",
            f"{load_seconds:.1f} s HF load", f"{load_seconds / import_seconds:.1f} x", "<= 5 s")

        hooks = driver(options.bin, "bench-hooks")
        row("idle tap", f"{hooks['idle_tap_ns']:.1f} ns", "", "", "<= 25 ns")
        driver(options.bin, "vyx-vector", "--model", model_path, "--template",
               "apps/data/happy.json", "--out", vector_path, *threads)
        decode = driver(options.bin, "bench-decode", "--model", model_path, "--vector", vector_path,
                        "--sites", "model.layers.{8..20}", *threads)
        idle = decode["instrumented_seconds"] / decode["plain_seconds"] - 1
        steered = decode["steered_seconds"] / decode["unsteered_seconds"] - 1
        row("decode step, instrumented and unhooked",
            f"{decode['instrumented_seconds'] * 1e3:.1f} ms",
            f"{decode['plain_seconds'] * 1e3:.1f} ms plain", f"{idle:+.2%}", "<= +1 %")
        row("decode step, 13 sites steered", f"{decode['steered_seconds'] * 1e3:.1f} ms",
            f"{decode['unsteered_seconds'] * 1e3:.1f} ms unsteered", f"{steered:+.2%}", "<= +2 %")

        for edit in driver(options.bin, "bench-latent-edit"):
            if edit["tokens"] == 1:
                row(
                    f"a latent of {edit['latents']:,} set, {edit['architecture']}, a token",
                    f"{edit['edit_seconds_a_token'] * 1e6:.1f} us",
                    f"{edit['full_seconds_a_token'] * 1e6:.0f} us full path",
                    f"{edit['ratio']:.0f} x", ">= 100 x at 65,536"
                    if edit["architecture"] != "topk" else "none: all pre-activations")

        ids = tokenizer(CHAT.format(PROMPT), return_tensors="pt")
        ours, theirs = [], []
        for _ in range(options.rounds):  # in turn, so that a busy machine hurts both
            report = driver(options.bin, "vyx-generate", "--model", model_path, "--chat",
                            "--prompt", PROMPT, "--ignore-end", "--max-tokens", options.tokens,
                            *threads)
            ours.append(report["tokens_per_second"])
            with torch.no_grad():
                first, _ = seconds(
                    lambda: hf.generate(**ids, max_new_tokens=1, min_new_tokens=1, do_sample=False))
                whole, out = seconds(
                    lambda: hf.generate(**ids, max_new_tokens=options.tokens, min_new_tokens=options
                                        .tokens, do_sample=False))
            theirs.append((options.tokens - 1) / (whole - first))
        a, b = statistics.median(ours), statistics.median(theirs)
        row("greedy decode, float32", f"{a:.1f} tokens/s", f"{b:.1f} tokens/s HF", f"{a / b:.2f} x",
            ">= 1 x")
        same = report["tokens"] == out[0, ids.input_ids.shape[1]:].tolist()
        print(f"{'':<44} the tokens are {'the same' if same else 'DIFFERENT'}")

    bench_vector.main(["--bin", str(options.bin), "--threads",
                       str(options.threads)], hf=hf, tokenizer=tokenizer, row=row)


if __name__ == "__main__":
    main()
