"""A control vector of 128 pairs at 29 blocks, vyx beside repeng: with the model loaded, and as
whole processes.

Both get the same prompts, the same float32 weights, each in its own file format, and the same
number of threads.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")
GGUF = pathlib.Path(".deps/models/smollm2.gguf").resolve()
DATA = pathlib.Path(__file__).resolve().parents[2] / "apps/data"
PROMPT = ("<|im_start|>user\nPretend you are {} person who talks about the world.<|im_end|>\n"
          "<|im_start|>assistant\n{}")
PAIRS = 128
METHODS = ("pca-center", "pca-diff")


def contrast_pairs():
    beginnings = (DATA / "beginnings.txt").read_text().splitlines()[:PAIRS]
    return [{
        "positive": PROMPT.format("an extremely happy", b),
        "negative": PROMPT.format("an extremely sad", b)
    } for b in beginnings]


def train(model, tokenizer, pairs, method):
    """repeng's vector, and the seconds that it took."""
    import repeng
    import repeng.extract

    repeng.extract.tqdm.tqdm = lambda items, *args, **kwargs: items  # no progress bars
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    dataset = [repeng.DatasetEntry(**pair) for pair in pairs]
    start = time.perf_counter()
    vector = repeng.ControlVector.train(model, tokenizer, dataset, method=method.replace("-", "_"))
    return vector, time.perf_counter() - start


def load_gguf(path):
    """transformers' own way to load GGUF wants accelerate; the conversion is the same."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    model = LlamaForCausalLM(LlamaConfig(**load_gguf_checkpoint(path)["config"])).eval()
    model.load_state_dict(
        load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"],
        strict=False)
    model.tie_weights()
    return model, AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


def peer(folder, pairs, method, threads):
    """A whole process of repeng's: what this script runs itself as."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    train(model, AutoTokenizer.from_pretrained(folder), json.loads(pathlib.Path(pairs).read_text()),
          method)


def timed(command, **options):
    start = time.perf_counter()
    result = subprocess.run([*map(str, command)], check=True, **options)
    return time.perf_counter() - start, result


def lowest_cosine(vector, path):
    import gguf
    import numpy as np

    ours = {int(t.name.split(".")[1]): t.data for t in gguf.GGUFReader(path).tensors}
    assert ours.keys() == vector.directions.keys(), "the two have directions for different blocks"
    return min(float(np.dot(ours[k], vector.directions[k])) for k in ours)


def plain_row(what, ours, theirs, ratio, goal):
    print(f"{what:<44} {ours:>16} {theirs:>22} {ratio:>10}   goal {goal}", flush=True)


def main(arguments=None, hf=None, tokenizer=None, row=plain_row):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("build/release/bin"))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)

    import torch

    torch.set_num_threads(options.threads)
    if hf is None:
        hf, tokenizer = load_gguf(GGUF)
    pairs = contrast_pairs()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model, vector, jsonl, array = (folder / n for n in ("smollm2.pt", "happy.gguf",
                                                            "pairs.jsonl", "pairs.json"))
        jsonl.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        array.write_text(json.dumps(pairs))
        hf.save_pretrained(folder / "hf")
        tokenizer.save_pretrained(folder / "hf")
        threads = ("--threads", options.threads)
        timed([options.bin / "vyx-import", GGUF, "--out", model, "--quiet", *threads],
              stdout=subprocess.DEVNULL)
        for method in METHODS:
            whole, result = timed([
                options.bin / "vyx-vector", "--model", model, "--contrast", jsonl, "--method",
                method, "--out", vector, "--json", *threads
            ], stdout=subprocess.PIPE)
            seconds = json.loads(result.stdout)["seconds"]
            theirs, their_seconds = train(hf, tokenizer, pairs, method)
            row(f"128-pair vector, {method}, model loaded", f"{seconds:.2f} s",
                f"{their_seconds:.2f} s repeng", f"{their_seconds / seconds:.1f} x", ">= 4 x")
            their_whole, _ = timed(
                [sys.executable, __file__, "--peer", folder / "hf", array, method, options.threads],
                stderr=subprocess.DEVNULL)
            row(f"128-pair vector, {method}, whole process", f"{whole:.2f} s",
                f"{their_whole:.2f} s repeng", f"{their_whole / whole:.1f} x", ">= 4 x")
            print(f"{'':<44} lowest cosine over the 29 blocks: {lowest_cosine(theirs, vector):.4f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        peer(*sys.argv[2:5], int(sys.argv[5]))
    else:
        main()
