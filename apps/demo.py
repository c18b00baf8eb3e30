"""./vyx demo: steer SmolLM2-135M with a control vector, from the weights to a steered model in
stock Python; then train a sparse autoencoder on its activations, measure it, and compare its
latents with control vectors.

Runs the drivers as a user would, shows each command, and leaves its results in out/demo.
"""

import json
import pathlib
import subprocess
import sys
import time

BIN = pathlib.Path("build/release/bin")
OUT = pathlib.Path("out/demo")
SITES = "model.layers.{8..21}"  # the middle; elsewhere edits break the grammar sooner
PROMPT = "How was your day?"
SAE_SITE = "model.layers.14"
TEXT = ".deps/text/english.jsonl"
HELDOUT = ".deps/text/heldout.jsonl"  # the same mix of documents; none is in both

NEXT = f"""
Now with a model of your own, as a GGUF file, and a concept of your own: change apps/data/happy.json
and happy_heldout.jsonl (apps/data/README.md says how).

$ PATH=$PWD/{BIN}:$PATH
$ vyx-import your-model.gguf --out model.pt
$ vyx-vector --model model.pt --template apps/data/happy.json --out concept.gguf
$ vyx-sweep --model model.pt --vector concept.gguf --sites '{SITES}' \\
    --heldout apps/data/happy_heldout.jsonl --neutral apps/data/neutral.txt --prompt '{PROMPT}'
$ vyx-generate --model model.pt --vector concept.gguf=4 --sites '{SITES}' \\
    --prompt '{PROMPT}'

{SITES} is the middle of 30 blocks: take the middle of your model's (vyx-inspect
model.pt shows num_hidden_layers), and instead of 4 the coefficient that vyx-sweep chose."""


def run(driver, *args):
    """Runs a driver, shows the command, and returns what it says in JSON."""
    command = [str(BIN / driver), *map(str, args)]
    shown = " ".join(f"'{word}'" if set(word) & set(" {}*") else word for word in command)
    print(f"\n$ {shown}", flush=True)
    result = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(result.returncode)
    return json.loads(result.stdout)


def main():
    started = time.monotonic()
    OUT.mkdir(parents=True, exist_ok=True)
    model, vector, steered = OUT / "smollm2.pt", OUT / "happy.gguf", OUT / "steered.pt"

    imported = run("vyx-import", ".deps/models/smollm2.gguf", "--out", model)
    print(f"{imported['name']}: {imported['parameters']:,} parameters,"
          f" imported in {imported['seconds']:.1f} s")

    extracted = run("vyx-vector", "--model", model, "--template", "apps/data/happy.json", "--out",
                    vector)
    accuracies = [site["held_out_accuracy"] for site in extracted["sites"]]
    print(f"{extracted['pairs']} pairs, {len(accuracies)} sites, {extracted['seconds']:.1f} s;"
          f" held-out accuracy {min(accuracies):.2f} to {max(accuracies):.2f}")

    swept = run("vyx-sweep", "--model", model, "--vector", vector, "--sites", SITES, "--heldout",
                "apps/data/happy_heldout.jsonl", "--neutral", "apps/data/neutral.txt",
                "--coefficients", 2, 4, 6, 8, "--prompt", PROMPT)
    print("coefficient  shift (nats per token)  KL on neutral text (nats per token)")
    rows = {row["coefficient"]: row for row in swept["rows"]}
    for row in swept["rows"]:
        print(f"{row['coefficient']:>11g}  {row['shift']:>+22.3f}  {row['kl_mean']:>35.3f}")
    if swept["chosen"] is None:
        sys.exit("no coefficient moved the mood within the accepted KL")
    print(f"\nUser: {PROMPT}")
    for generation in swept["generations"]:
        row = rows[generation["coefficient"]]
        print(f"\n[{generation['coefficient']:+g}; shift {row['shift']:+.3f},"
              f" KL {row['kl_mean']:.3f}] {generation['text']}")

    exported = run("vyx-export", "--model", model, "--vector", vector, "--sites", SITES,
                   "--coefficient", swept["chosen"], "--out", steered)
    python = run_in_python(steered, swept["chosen"])

    report = {
        "import": imported,
        "vector": extracted,
        "sweep": swept,
        "export": exported,
        "python": python,
        "autoencoder": train_autoencoder(model),
        "comparison": compare(model)
    }
    report["seconds"] = time.monotonic() - started
    (OUT / "demo.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"\nDone in {report['seconds']:.0f} s. {OUT} holds smollm2.pt, happy.gguf, steered.pt,"
          " store, sae, compare and demo.json.")
    print(NEXT)


def train_autoencoder(model):
    """A TopK autoencoder on one block's output, from text to metrics on text that it has not
    seen."""
    fast, sae = OUT / "smollm2-bfloat16.pt", OUT / "sae"
    store, heldout = OUT / "store", OUT / "heldout"
    run("vyx-import", ".deps/models/smollm2.gguf", "--dtype", "bfloat16", "--out", fast)
    for name, text, tokens in ((store, TEXT, 200_000), (heldout, HELDOUT, 10_000)):
        harvested = run("vyx-harvest", "--model", fast, "--text", text, "--sites", SAE_SITE,
                        "--tokens", tokens, "--out", name)
        left_out = harvested["left_out"]
        print(f"{harvested['rows']:,} activations of width {harvested['sites'][0]['width']},"
              f" without {left_out['sinks']:,} attention sinks; {harvested['seconds']:.0f} s")

    trained = run("vyx-sae-train", "--activations", store, "--architecture", "topk", "--latents",
                  4608, "--k", 32, "--batch", 2048, "--lr", 1e-3, "--tokens", 1_000_000, "--out",
                  sae, "--overwrite")
    print(
        f"{trained['tokens']:,} tokens in {trained['seconds']:.0f} s"
        f" ({trained['tokens'] / trained['seconds']:,.0f} tokens/s); curves in {sae}/training.html")

    measured = run("vyx-sae-eval", "--sae", sae, "--activations", heldout, "--model", model,
                   "--text", HELDOUT, "--tokens", 8192)
    metrics, recovered = measured["metrics"], measured["recovered"]
    print(f"on held-out text: explained variance {metrics['explained_variance']:.3f},"
          f" cosine {metrics['cosine']:.3f}, L0 {metrics['l0']:.1f},"
          f" {metrics['dead_fraction']:.1%} of the latents never fired")
    loss = {
        name: recovered[name]["cross_entropy"]
        for name in ("clean", "reconstruction", "mean", "zero")
    }
    print(
        f"cross-entropy {loss['clean']:.3f}; with the reconstruction {loss['reconstruction']:.3f},"
        f" with the activation's mean {loss['mean']:.3f}, with zero {loss['zero']:.3f}:"
        f" {recovered['against_mean']['cross_entropy_score']:.1%} of the loss against the mean is"
        " recovered")
    return {"harvest": harvested, "train": trained, "eval": measured}


def compare(model):
    """Directions and latents at the same KL on neutral text, on items that none of them was made or
    chosen from; too small for p-values."""
    compared = run("vyx-compare", "--model", model, "--template", "apps/data/happy.json",
                   "--heldout", "apps/data/happy_heldout.jsonl", "--sae", OUT / "sae", "--neutral",
                   "apps/data/neutral.txt", "--neutral-tokens", 512, "--candidates", 6, "--best-k",
                   3, "--kl", "0.3", "--sample-tokens", 24, "--nulls", 1, "--out", OUT / "compare")
    print("at a KL of 0.3 nats (95th percentile over tokens):\n"
          f"{'method':<18}  effect (nats per token)  95 % interval     wrong sign"
          "  detection (AUROC)")
    for method in compared["methods"]:
        level = next(level for level in method["levels"]
                     if level["level"] == compared["headline_kl"])
        low, high = level["interval"]
        print(f"{method['name']:<18}  {level['effect']:>+23.3f}  [{low:+.3f}, {high:+.3f}]"
              f"  {method['wrong_sign']:>+10.3f}  {method['detection']['auroc']:>17.3f}")
    for sentence in compared["answer"]:
        print(sentence)
    print(f"The whole comparison, with pictures, is in {compared['page']}")
    return compared


def run_in_python(path, coefficient):
    """The exported model in stock Python, with torch alone: the next word after a prompt, at −c, 0
    and +c."""
    import warnings

    warnings.filterwarnings("ignore", category=DeprecationWarning)  # torch.jit is in maintenance
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy")  # nothing here needs it
    import torch

    print(f"\n$ python -c 'import torch; m = torch.jit.load(\"{path}\"); …'")
    extra = {"tokenizer.json": ""}
    m = torch.jit.load(str(path), _extra_files=extra)
    vocabulary = {
        id: token
        for token, id in json.loads(extra["tokenizer.json"])["model"]["vocab"].items()
    }
    tokens = {token: id for id, token in vocabulary.items()}
    ids = torch.tensor([[tokens[token] for token in ("I", "Ġam", "Ġso")]])
    results = []
    for c in (-coefficient, 0.0, coefficient):
        m.set_coefficient(c)
        with torch.no_grad():
            logits = m(ids)  # [batch, seq, vocab]
        best = [vocabulary[i].replace("Ġ", " ") for i in logits[0, -1].topk(5).indices.tolist()]
        print(f"set_coefficient({c:+g}): 'I am so' continues with {best}")
        results.append({"coefficient": c, "next": best, "logits_shape": list(logits.shape)})
    return results


if __name__ == "__main__":
    main()
