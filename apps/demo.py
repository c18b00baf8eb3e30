"""./vyx demo: steer SmolLM2-135M with a control vector, from the weights to a steered model in stock Python.

Runs the drivers as a user would, shows each command, and leaves its results in out/demo.
"""

import json
import pathlib
import subprocess
import sys
import time

BIN = pathlib.Path("build/release/bin")
OUT = pathlib.Path("out/demo")
SITES = "model.layers.{8..21}"  # the middle of the network; earlier and later blocks break the grammar sooner
PROMPT = "How was your day?"


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
    print(f"{imported['name']}: {imported['parameters']:,} parameters, imported in {imported['seconds']:.1f} s")

    extracted = run("vyx-vector", "--model", model, "--template", "apps/data/happy.json", "--out", vector)
    accuracies = [site["held_out_accuracy"] for site in extracted["sites"]]
    print(f"{extracted['pairs']} pairs, {len(accuracies)} sites, {extracted['seconds']:.1f} s;"
          f" held-out accuracy {min(accuracies):.2f} to {max(accuracies):.2f}")

    swept = run("vyx-sweep", "--model", model, "--vector", vector, "--sites", SITES,
                "--pairs", "apps/data/happy_heldout.jsonl", "--neutral", "apps/data/neutral.txt", "--coefficients", 2, 4, 6, 8, "--prompt", PROMPT)
    print("coefficient  shift (nats a token)  KL on neutral text (nats a token)")
    rows = {row["coefficient"]: row for row in swept["rows"]}
    for row in swept["rows"]:
        print(f"{row['coefficient']:>11g}  {row['shift']:>+20.3f}  {row['kl_mean']:>33.3f}")
    if swept["chosen"] is None:
        sys.exit("no coefficient moved the mood within the accepted KL")
    print(f"\nUser: {PROMPT}")
    for generation in swept["generations"]:
        row = rows[generation["coefficient"]]
        print(f"\n[{generation['coefficient']:+g}; shift {row['shift']:+.3f}, KL {row['kl_mean']:.3f}]"
              f" {generation['text']}")

    exported = run("vyx-export", "--model", model, "--vector", vector, "--sites", SITES,
                   "--coefficient", swept["chosen"], "--out", steered)
    python = run_in_python(steered, swept["chosen"])

    report = {"import": imported, "vector": extracted, "sweep": swept, "export": exported, "python": python,
              "seconds": time.monotonic() - started}
    (OUT / "demo.json").write_text(json.dumps(report, indent=2) + "\n")
    print(f"\nDone in {report['seconds']:.0f} s. {OUT} holds smollm2.pt, happy.gguf, steered.pt and demo.json.")


def run_in_python(path, coefficient):
    """The exported model in stock Python, with torch alone: the next word after a prompt, at −c, 0 and +c."""
    import warnings

    warnings.filterwarnings("ignore", category=DeprecationWarning)  # torch.jit is in maintenance
    import torch

    print(f"\n$ python -c 'import torch; m = torch.jit.load(\"{path}\"); …'")
    extra = {"tokenizer.json": ""}
    m = torch.jit.load(str(path), _extra_files=extra)
    vocabulary = {id: token for token, id in json.loads(extra["tokenizer.json"])["model"]["vocab"].items()}
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
