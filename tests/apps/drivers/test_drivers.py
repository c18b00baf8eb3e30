"""The drivers as a user types them, on a tiny model."""

import json
import re

import pytest
import torch

from conftest import PAIRS, write_sae, write_tiny_gguf

DRIVERS = [
    "vyx-ablate", "vyx-compare", "vyx-export", "vyx-generate", "vyx-harvest", "vyx-implicit",
    "vyx-import", "vyx-inspect", "vyx-latents", "vyx-sae-eval", "vyx-sae-train", "vyx-sweep",
    "vyx-vector"
]


def test_every_driver_is_tested(drivers):
    assert drivers.names() == DRIVERS


@pytest.mark.parametrize("driver", DRIVERS)
def test_help_shows_examples_and_every_common_option(drivers, driver):
    result = drivers.run(driver, "--help")
    assert result.returncode == 0 and result.stderr == ""
    assert f"usage: {driver} " in result.stdout and "examples:" in result.stdout
    for option in ("--json", "--seed", "--threads", "--device", "--quiet", "--version"):
        assert option in result.stdout


@pytest.mark.parametrize("driver", DRIVERS)
def test_help_is_a_table_of_at_most_100_columns(drivers, driver):
    lines = drivers.run(driver, "--help").stdout.splitlines()
    assert max(map(len, lines[1:])) <= 100, max(lines[1:], key=len)
    described = drivers.describe(driver)
    text = " ".join(" ".join(lines).split())
    for option in described["options"]:
        assert f"--{option['name']}" in text and " ".join(option["help"].split()) in text
        assert option["help"] and not re.search(r"\d{10}", option.get("default", ""))
    for form in described["results"]:
        assert form["keys"] and (form["when"] or len(described["results"]) == 1)


def test_the_same_name_means_the_same_everywhere(drivers):
    units = {}
    for driver in DRIVERS:
        for option in drivers.describe(driver)["options"]:
            units.setdefault(option["name"], set()).add(
                (option["type"], option.get("value", "").rstrip("…")))
    assert units["tokens"] == {("integer", "N")}
    assert units["site"] == {("text", "SITE")}
    assert units["sites"] == units["target-sites"] == {("text", "PATTERN")}
    assert {"sae-site", "target-site", "pairs", "text-tokens"}.isdisjoint(units)
    for name, kinds in units.items():
        assert len({type for type, _ in kinds}) == 1, (name, kinds)


@pytest.mark.parametrize("driver, old, new", [("vyx-harvest", "--site", "--sites"),
                                              ("vyx-sae-train", "--target-site", "--target-sites"),
                                              ("vyx-generate", "--sae-site", "--site"),
                                              ("vyx-latents", "--candidate", "--candidates")])
def test_an_unknown_option_names_the_nearest(drivers, driver, old, new):
    line = drivers.error(driver, old, "x", code=2)
    assert f"there is no option {old}; did you mean {new}?" in line


@pytest.mark.parametrize("driver", DRIVERS)
def test_version(drivers, driver):
    assert drivers.run(driver, "--version").stdout.startswith(f"{driver} 0.1.0 (LibTorch 2.")


@pytest.mark.parametrize("driver", DRIVERS)
def test_wrong_usage_exits_2_with_one_line(drivers, driver):
    assert "--help" in drivers.error(driver, "--no-such-option", code=2)
    assert "--help" in drivers.error(driver, code=2)  # required options missing


def test_import_says_what_it_wrote(drivers, tiny_gguf, tmp_path):
    report = drivers.json("vyx-import", tiny_gguf, "--out", tmp_path / "m.pt")
    assert report["architecture"] == "llama" and report["dtype"] == "float32"
    assert report["bytes"] == (tmp_path / "m.pt").stat().st_size
    m = torch.jit.load(tmp_path / "m.pt")
    assert report["parameters"] == sum(p.numel() for p in m.parameters())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_import_in_another_type(drivers, tiny_gguf, tmp_path, dtype):
    drivers.json("vyx-import", tiny_gguf, "--out", tmp_path / "m.pt", "--dtype", dtype)
    m = torch.jit.load(tmp_path / "m.pt")
    assert m.model.embed_tokens.weight.dtype == getattr(torch, dtype)
    assert torch.isfinite(m(torch.tensor([[5, 6, 7]])).float()).all()


def test_inspect_knows_all_three_kinds_of_file(drivers, tiny_gguf, tiny_model, tiny_vector):
    gguf_report = drivers.json("vyx-inspect", tiny_gguf)
    assert gguf_report["kind"] == "gguf" and gguf_report["metadata"]["llama.block_count"] == "3"
    model_report = drivers.json("vyx-inspect", tiny_model, "--run")
    assert model_report["kind"] == "torchscript" and model_report["config"]["name"] == "Tiny 0"
    shapes = {site["site"]: site["shape"] for site in model_report["sites"]}
    assert shapes["model.layers.1:output"] == "[1, 2, 32]"
    assert shapes["model.layers.1.mlp.gate_proj:output"] == "[1, 2, 64]"
    vector_report = drivers.json("vyx-inspect", tiny_vector)
    assert vector_report["kind"] == "control vector" and vector_report["pairs"] == 10
    for path in (tiny_gguf, tiny_model, tiny_vector):
        assert str(path) in drivers.run("vyx-inspect", path).stdout


def test_inspect_shows_any_torchscript(drivers, tmp_path):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(4, 8)

        def forward(self, x):
            return self.lstm(x)[0]

    torch.jit.trace(Net(), torch.randn(3, 1, 4)).save(tmp_path / "net.pt")
    report = drivers.json("vyx-inspect", tmp_path / "net.pt")
    assert "lstm:output" in [site["site"] for site in report["sites"]] and report["config"] is None


def test_inspect_reads_what_a_run_would_show(drivers, tiny_model, tmp_path):
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    convolution = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4),
                                      torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Identity()))
    for i, module in enumerate((torch.nn.TransformerEncoder(layer, 2), convolution)):
        torch.jit.script(module.eval()).save(tmp_path / f"{i}.pt")
    torch.jit.trace(convolution, torch.zeros(1, 3, 5, 5)).save(tmp_path / "2.pt")
    for path in (tiny_model, *sorted(tmp_path.iterdir())):
        read, run = drivers.json("vyx-inspect", path), drivers.json("vyx-inspect", path, "--run")
        assert all(site["shape"] is None for site in read["sites"])
        for report in (read, run):
            report["sites"] = [site["site"] for site in report["sites"]]
        assert read == run and read["sites"] and read["opaque"] == []


def test_vector_reports_each_site_and_leaves_out_block_0(drivers, tiny_model, tiny_pairs, tmp_path):
    report = drivers.json("vyx-vector", "--model", tiny_model, "--contrast", tiny_pairs, "--out",
                          tmp_path / "v.gguf")
    assert [site["site"]
            for site in report["sites"]] == ["model.layers.1:output", "model.layers.2:output"]
    for site in report["sites"]:
        assert 0 <= site["eigengap"] <= 1 and 0 <= site["sign_vote_margin"] <= 1 and site[
            "median_norm"] > 0


def test_vector_from_a_template(drivers, tiny_model, tmp_path):
    (tmp_path / "beginnings.txt").write_text("".join(f"Word {n}\n" for n in range(8)))
    (tmp_path / "mood.json").write_text(
        json.dumps({
            "prompt": "Act like a {persona} person.",
            "positive": ["happy"],
            "negative": ["sad"],
            "beginnings": "beginnings.txt"
        }))
    report = drivers.json("vyx-vector", "--model", tiny_model, "--template", tmp_path / "mood.json",
                          "--out", tmp_path / "v.gguf", "--method", "mean")
    assert report["pairs"] == 8 and report["method"] == "mean"


def test_every_method_of_the_table_makes_a_vector(drivers, tiny_model, tiny_pairs, tmp_path):
    listed = json.loads(drivers.run("vyx-vector", "--help", "--json").stdout)
    option, = [option for option in listed["options"] if option["name"] == "method"]
    methods = option["value"].split("|")
    assert methods == ["pca-center", "pca-diff", "mean", "logistic"]
    for method in methods:
        assert f"{method}: " in option["help"]
        out = tmp_path / f"{method}.gguf"
        report = drivers.json("vyx-vector", "--model", tiny_model, "--contrast", tiny_pairs,
                              "--method", method, "--out", out)
        assert report["method"] == method
        assert drivers.json("vyx-inspect", out)["method"] == method


def test_the_same_run_gives_the_same_bytes(drivers, tiny_model, tiny_pairs, tiny_vector, tmp_path):
    drivers.json("vyx-vector", "--model", tiny_model, "--contrast", tiny_pairs, "--method", "mean",
                 "--out", tmp_path / "again.gguf")
    assert (tmp_path / "again.gguf").read_bytes() == tiny_vector.read_bytes()


def generate(drivers, model, *args):
    return drivers.json("vyx-generate", "--model", model, "--prompt", "Hello", "--max-tokens", 12,
                        "--ignore-end", *args)


def test_generate_reports_text_tokens_and_speed(drivers, tiny_model):
    report = generate(drivers, tiny_model)
    assert len(report["tokens"]) == 12 and isinstance(report["text"],
                                                      str) and report["tokens_per_second"] > 0
    assert report["stop_reason"] == "length"


def test_generate_streams_the_text_that_json_reports(drivers, tiny_model):
    streamed = drivers.run("vyx-generate", "--model", tiny_model, "--prompt", "Hello",
                           "--max-tokens", 12, "--ignore-end")
    text = generate(drivers, tiny_model)["text"]
    shown = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", lambda found: f"\\u{ord(found[0]):04x}", text)
    assert streamed.stdout == shown + "\n"


def test_bytes_that_the_vocabulary_cannot_spell_are_counted(drivers, tmp_path):
    model = tmp_path / "m.pt"
    drivers.json("vyx-import", write_tiny_gguf(tmp_path / "m.gguf", lost_bytes=[4]), "--out", model)
    args = ("--model", model, "--max-tokens", 2, "--prompt")
    warning = "2 bytes of the prompt have no token"
    assert warning in drivers.run("vyx-generate", *args, "a\x04b\x04").stderr
    assert "no token" not in drivers.run("vyx-generate", *args, "ab").stderr
    assert warning not in drivers.run("vyx-generate", *args, "a\x04b\x04", "--quiet").stderr
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(
        json.dumps(pair) + "\n" for pair in [*PAIRS, {
            "positive": "\x04x",
            "negative": "y"
        }]))
    result = drivers.run("vyx-vector", "--model", model, "--contrast", pairs, "--out",
                         tmp_path / "v.gguf")
    assert result.returncode == 0 and "pairs.jsonl: 1 bytes have no token" in result.stderr


def test_coefficient_0_is_the_baseline_and_another_is_not(drivers, tiny_model, tiny_vector):
    baseline = generate(drivers, tiny_model)["tokens"]
    assert generate(drivers, tiny_model, "--vector", f"{tiny_vector}=0")["tokens"] == baseline
    assert generate(drivers, tiny_model, "--vector", f"{tiny_vector}=50")["tokens"] != baseline


def test_vectors_add_up(drivers, tiny_model, tiny_vector):
    twice = generate(drivers, tiny_model, "--vector", f"{tiny_vector}=5", "--vector",
                     f"{tiny_vector}=5")
    assert twice["tokens"] == generate(drivers, tiny_model, "--vector",
                                       f"{tiny_vector}=10")["tokens"]


def test_sampling_is_seeded(drivers, tiny_model):
    sample = lambda seed: generate(drivers, tiny_model, "--temperature", 1, "--seed", seed)["tokens"
                                                                                            ]
    assert sample(1) == sample(1) and sample(1) != sample(2)


def test_sweep_measures_each_coefficient_and_the_baseline(drivers, tiny_model, tiny_vector,
                                                          tmp_path):
    (tmp_path / "pairs.jsonl").write_text("".join(
        json.dumps({
            "prompt": f"How is {x}?",
            "positive": "Good and glad.",
            "negative": "Bad and sad."
        }) + "\n" for x in ("it", "work", "home")))
    (tmp_path / "neutral.txt").write_text("The river flows past the town to the sea. " * 10)
    report = drivers.json("vyx-sweep", "--model", tiny_model, "--vector", tiny_vector, "--heldout",
                          tmp_path / "pairs.jsonl", "--neutral", tmp_path / "neutral.txt",
                          "--coefficients", 1, 4, "--max-kl", 100)
    rows = {row["coefficient"]: row for row in report["rows"]}
    assert list(rows) == [-4, -1, 0, 1, 4]
    assert rows[0]["shift"] == 0 and rows[0]["kl_mean"] == 0
    assert rows[4]["kl_mean"] > rows[1]["kl_mean"] > 0


def test_sweep_takes_latents_as_generate_does(drivers, tiny_model, tiny_vector, tmp_path):
    sae = write_sae(tmp_path / "sae")
    (tmp_path / "pairs.jsonl").write_text("".join(
        json.dumps({
            "prompt": f"How is {x}?",
            "positive": "Good and glad.",
            "negative": "Bad and sad."
        }) + "\n" for x in ("it", "work")))
    (tmp_path / "neutral.txt").write_text("The river flows past the town to the sea. " * 10)
    base = ("vyx-sweep", "--model", tiny_model, "--heldout", tmp_path / "pairs.jsonl", "--neutral",
            tmp_path / "neutral.txt", "--max-kl", 100)
    sweep = lambda *args: {row["coefficient"]: row for row in drivers.json(*base, *args)["rows"]}
    # Latent 3 reads and writes +e3: what is added is the same at every token.
    latent, once = ("--sae", sae, "--latent", "3=+2"), ("--sae", sae, "--latent", "3=+6")
    rows = sweep(*latent, "--coefficients", 1, 3)
    assert list(rows) == [-3, -1, 0, 1, 3]
    assert rows[0]["shift"] == 0 and rows[0]["kl_mean"] == 0
    assert rows[3]["kl_mean"] > rows[1]["kl_mean"] > 0
    assert rows[3]["shift"] == pytest.approx(
        sweep(*once, "--coefficients", 1)[1]["shift"], rel=1e-3)
    both = sweep(*latent, "--vector", tiny_vector, "--coefficients", 1)[1]
    assert both["shift"] != rows[1]["shift"]
    assert both["shift"] != sweep("--vector", tiny_vector, "--coefficients", 1)[1]["shift"]
    assert "expected at least one --vector, or --sae with --latent" in drivers.error(*base, code=2)
    assert "--latent 3: " in drivers.error(*base, "--sae", sae, "--latent", "3", code=2)


def test_vector_says_how_small_and_how_doubtful_it_is(drivers, tiny_model, tiny_pairs, tmp_path):
    def vector(pairs, *args):
        path = tmp_path / "pairs.jsonl"
        path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        arguments = ("vyx-vector", "--model", tiny_model, "--contrast", path, "--out",
                     tmp_path / "v.gguf", *args)
        return drivers.run(*arguments), drivers.json(*arguments)

    run, report = vector(PAIRS, "--sites", "model.layers.2")
    assert " of 2\n" in run.stdout and run.stderr == "", run.stderr
    assert [(site["held_out"], site["doubts"]) for site in report["sites"]] == [(2, [])]

    mirrored = [{
        "positive": "I win",
        "negative": "I lose"
    }, {
        "positive": "I lose",
        "negative": "I win"
    }]
    run, report = vector(mirrored)
    assert "1 of 2 pairs are an earlier one with its sides swapped" in run.stderr
    assert "v.gguf: sign is a guess at every site" in run.stderr
    assert "v.gguf: not judged on held-out pairs at every site" in run.stderr
    assert "sign is a guess" in run.stdout and "–" in run.stdout
    assert report["sites"][0]["doubts"][0] == "sign is a guess"
    assert report["sites"][0]["held_out"] == 0 and report["sites"][0]["held_out_accuracy"] is None
    steered = drivers.run("vyx-generate", "--model", tiny_model, "--prompt", "Hello",
                          "--max-tokens", 2, "--vector", tmp_path / "v.gguf")
    assert "v.gguf: sign is a guess at every site" in steered.stderr
    line = drivers.run("vyx-vector", "--model", tiny_model, "--contrast", tmp_path / "pairs.jsonl",
                       "--method", "mean", "--out", tmp_path / "v.gguf", "--quiet").stderr
    assert "cancel out" in line and "pca-center" not in line

    run, report = vector(PAIRS * 2)
    assert "10 of 20 pairs repeat an earlier one" in run.stderr
    assert report["sites"][0]["held_out"] == 2


def test_export_steers_in_stock_python(drivers, tiny_model, tiny_vector, tmp_path):
    out = tmp_path / "steered.pt"
    report = drivers.json("vyx-export", "--model", tiny_model, "--vector", tiny_vector,
                          "--coefficient", 3, "--out", out)
    assert report["sites"] == ["model.layers.1:output", "model.layers.2:output"]
    ids = torch.tensor([[1, 40, 50, 60]])
    plain, steered = torch.jit.load(tiny_model), torch.jit.load(out)
    assert steered(ids).shape == (1, 4, 261)
    at_3 = steered(ids)
    assert not torch.equal(at_3, plain(ids))
    steered.set_coefficient(0.0)
    assert torch.equal(steered(ids), plain(ids))
    steered.set_coefficient(3.0)
    assert torch.equal(steered(ids), at_3)


def test_an_exported_model_is_a_language_model_still(drivers, tiny_model, tiny_vector, tmp_path):
    out = tmp_path / "steered.pt"
    drivers.json("vyx-export", "--model", tiny_model, "--vector", f"{tiny_vector}=7", "--out", out)
    hooked = generate(drivers, tiny_model, "--vector", f"{tiny_vector}=7")["tokens"]
    assert generate(drivers, out)["tokens"] == hooked
