"""vyx-latents on a tiny model and an autoencoder with one latent on the concept's direction."""

import json

import gguf
import numpy as np
import pytest

from conftest import PAIRS, WIDTH, write_sae

SITE, READER, DEAD = "model.layers.1:output", 7, 11
HELDOUT = [{
    "prompt": "How is it?",
    "positive": " glad it is",
    "negative": " sad it was"
}, {
    "prompt": "And you?",
    "positive": " I am glad",
    "negative": " so sad"
}]
NEUTRAL = "A canal is an artificial waterway, and some canals carry boats. Others water fields."


@pytest.fixture(scope="module")
def vector(drivers, tiny_model, tiny_pairs, tmp_path_factory):
    """The difference of the sides' means, as a file."""
    out = tmp_path_factory.mktemp("vector") / "mean.gguf"
    drivers.json("vyx-vector", "--model", tiny_model, "--contrast", tiny_pairs, "--method", "mean",
                 "--out", out)
    return out


@pytest.fixture(scope="module")
def difference(vector):
    [tensor] = [
        tensor for tensor in gguf.GGUFReader(str(vector)).tensors if tensor.name == "direction.1"
    ]
    return np.array(tensor.data)


@pytest.fixture(scope="module")
def sae(difference, tmp_path_factory):
    """Latent READER reads and writes the difference of the means; the others are at right angles to
    it, so that their means do not differ; all but DEAD always fire."""
    latents = 2 * WIDTH
    rows = np.random.default_rng(0).standard_normal((latents, WIDTH))
    unit = difference / np.linalg.norm(difference)
    rows -= np.outer(rows @ unit, unit)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[READER] = unit
    rows = rows.astype(np.float32)
    bias = np.full(latents, 100, np.float32)
    bias[DEAD] = -100
    return write_sae(
        tmp_path_factory.mktemp("sae") / "planted", W_enc=np.ascontiguousarray(rows.T), b_enc=bias,
        W_dec=rows)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "heldout.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in HELDOUT))
    (folder / "neutral.txt").write_text(NEUTRAL)
    return folder


@pytest.fixture(scope="module")
def base(tiny_model, tiny_pairs, sae):
    return "--model", tiny_model, "--sae", sae, "--contrast", tiny_pairs


def by_latent(report):
    return {entry["latent"]: entry for entry in report["latents"]}


def test_the_planted_latent_leads_by_difference_and_cosine(drivers, base, vector, difference):
    report = drivers.json("vyx-latents", *base, "--positions", "last", "--vector", vector, "--by",
                          "difference", "--top", 4)
    first = report["latents"][0]
    assert first["latent"] == READER and len(report["latents"]) == 4
    assert first["difference"] == pytest.approx(np.linalg.norm(difference), rel=1e-3)
    assert first["cosine"] == pytest.approx(1, abs=1e-5)
    others = np.delete(np.array(report["scores"]["difference"]), READER)
    assert np.abs(others).max() < 1e-3
    assert report["scores"]["auroc"][DEAD] == 0.5
    assert report["site"] == SITE and report["prompts"] == 20 and len(
        report["scores"]["auroc"]) == 2 * WIDTH
    assert drivers.json("vyx-latents", *base, "--vector", vector, "--by", "cosine", "--top",
                        1)["latents"][0]["latent"] == READER


def test_a_small_shift_is_the_predicted_one(drivers, base, files):
    report = drivers.json("vyx-latents", *base, "--heldout", files / "heldout.jsonl", "--neutral",
                          files / "neutral.txt", "--dose", 0.003, "--by", "predicted", "--top", 3)
    assert report["writes_by"] == "predicted"
    scores = report["scores"]
    assert [entry["latent"]
            for entry in report["latents"]] == list(np.argsort(-np.array(scores["predicted"]))[:3])
    assert report["best_writer"] == report["latents"][0]["latent"] and report["latents"][0][
        "write_place"] == 1
    measured = report["measured"]
    assert len(measured) >= 3 and all(
        (value is not None) == (i in measured) for i, value in enumerate(scores["shift"]))
    for latent in measured:
        assert scores["shift"][latent] == pytest.approx(scores["predicted"][latent], rel=0.1,
                                                        abs=2e-5)
        assert scores["kl"][latent] >= 0 and 0 <= scores["output"][latent] <= 1


def test_attribution_is_of_what_fires(drivers, base, files):
    report = drivers.json("vyx-latents", *base, "--heldout", files / "heldout.jsonl", "--by",
                          "attribution", "--top", 2 * WIDTH)
    attribution = np.array(report["scores"]["attribution"])
    assert attribution[DEAD] == 0 and (np.delete(attribution, DEAD) != 0).all()
    assert [entry["latent"]
            for entry in report["latents"]] == list(np.argsort(-attribution, kind="stable"))
    assert "shift" not in report["scores"]


def test_means_over_all_tokens(drivers, base):
    report = drivers.json("vyx-latents", *base, "--positions", "all", "--by", "difference", "--top",
                          1)
    last = drivers.json("vyx-latents", *base, "--positions", "last", "--by", "difference", "--top",
                        1)
    assert report == {
        **drivers.json("vyx-latents", *base, "--by", "difference", "--top", 1), "seconds":
        report["seconds"]
    }
    assert report["prompts"] == 20
    assert report["scores"]["difference"] != last["scores"]["difference"]
    assert report["scores"]["difference"][DEAD] == 0


def test_contexts_come_from_the_prompts_or_from_text(drivers, base, files):
    def contexts(*args):
        report = drivers.json("vyx-latents", *base, "--contexts", 2, "--window", 4, *args)
        return [context for entry in report["latents"] for context in entry["contexts"]]

    for context in contexts("--top", 3):
        around = context["before"] + context["token"] + context["after"]
        assert any(around in pair[side] for pair in PAIRS for side in pair)
    found = contexts("--top", 3, "--text", files / "neutral.txt")
    assert len(found) == 6
    for context in found:
        assert context["before"] + context["token"] + context["after"] in NEUTRAL and context[
            "token"]
    report = drivers.json("vyx-latents", *base, "--top", 1, "--show", DEAD, "--text",
                          files / "neutral.txt")
    assert by_latent(report)[DEAD]["contexts"] == []


def test_by_cosine_shows_both_ends(drivers, base, vector):
    report = drivers.json("vyx-latents", *base, "--vector", vector, "--by", "cosine", "--top", 2)
    cosines = np.array(report["scores"]["cosine"])
    order = list(np.argsort(-cosines, kind="stable"))
    assert [entry["latent"] for entry in report["latents"]] == order[:2] + order[-2:]
    assert report["latents"][0]["latent"] == READER and report["latents"][-1]["cosine"] < 0
    few = drivers.json("vyx-latents", *base, "--vector", vector, "--by", "cosine", "--top",
                       2 * WIDTH)
    assert [entry["latent"] for entry in few["latents"]] == order


def test_one_latent_is_looked_at_without_a_contrast_set(drivers, tiny_model, sae, base, files,
                                                        vector):
    alone = ("--model", tiny_model, "--sae", sae, "--show", READER, DEAD, "--text",
             files / "neutral.txt")
    report = drivers.json("vyx-latents", *alone, "--contexts", 2)
    with_set = drivers.json("vyx-latents", *base, "--show", READER, DEAD, "--text",
                            files / "neutral.txt", "--contexts", 2)
    assert list(by_latent(report)) == [READER, DEAD]
    for latent in (READER, DEAD):
        found, other = by_latent(report)[latent], by_latent(with_set)[latent]
        for key in ("promotes", "suppresses", "contexts"):
            assert found[key] == other[key]
        assert "auroc" not in found and found["read_place"] is None
    assert len(by_latent(report)[READER]["contexts"]) == 2
    for key in ("reads_by", "best_reader", "by"):
        assert report[key] is None
    assert report["prompts"] == 0 and report["left_out"] == {"special": 0, "sinks": 0}
    text = drivers.run("vyx-latents", *alone).stdout
    assert "AUROC" not in text and "nothing is known of what reads" in text
    ranked = drivers.json("vyx-latents", *alone, "--vector", vector, "--by", "cosine", "--top", 1)
    assert ranked["latents"][0]["latent"] == READER

    def error(*args):
        return drivers.error("vyx-latents", "--model", tiny_model, "--sae", sae, *args, code=2)

    assert "expected --text with it" in error("--show", READER)
    assert "--by auroc: expected --contrast or --template" in error("--show", READER, "--text",
                                                                    files / "neutral.txt", "--by",
                                                                    "auroc")
    assert "--top has no effect" in error("--show", READER, "--text", files / "neutral.txt",
                                          "--top", 3)


def test_the_same_run_twice(drivers, base, files):
    def run():
        report = drivers.json("vyx-latents", *base, "--heldout", files / "heldout.jsonl",
                              "--threads", 2)
        del report["seconds"]
        return report

    assert run() == run()


def test_the_table_fits_and_says_what_is_not_there(drivers, base, files, vector):
    full = drivers.run("vyx-latents", *base, "--heldout", files / "heldout.jsonl", "--neutral",
                       files / "neutral.txt", "--vector", vector, "--top", 3, "--show", DEAD)
    assert full.returncode == 0, full.stderr
    assert max(map(len, full.stdout.split("\n")[:8])) <= 120
    for words in ("AUROC", "shift", "attrib.", "cosine", "promotes", "suppresses", "«",
                  "best at reading", "fires nowhere"):
        assert words in full.stdout
    short = drivers.run("vyx-latents", *base, "--top", 3)
    assert "no attribution" in short.stdout and "AUROC" in short.stdout
    assert "cosine" not in short.stdout


def test_bad_input_is_one_line(drivers, tiny_model, tiny_pairs, sae, base, files, tmp_path):
    def error(*args, code=1):
        return drivers.error("vyx-latents", *args, code=code)

    def error_of(other, *args):
        return error("--model", tiny_model, "--sae", other, "--contrast", tiny_pairs, *args)

    assert "one of --contrast and --template" in error("--model", tiny_model, "--sae", sae, code=2)
    assert f"--show {2 * WIDTH}: expected 0 to {2 * WIDTH - 1}" in error(
        *base, "--show", 2 * WIDTH, code=2)
    assert "--show -1" in error(*base, "--show=-1", code=2)
    assert "--by best" in error(*base, "--by", "best", code=2)
    assert "--heldout" in error(*base, "--by", "attribution", code=2)
    assert "--neutral" in error(*base, "--heldout", files / "heldout.jsonl", "--by", "shift",
                                code=2)
    assert "--vector" in error(*base, "--by", "cosine", code=2)
    assert "--positions first" in error(*base, "--positions", "first", code=2)
    assert "--dose 0: expected" in error(*base, "--heldout", files / "heldout.jsonl", "--dose", 0,
                                         code=2)

    assert str(tmp_path / "none") in error_of(tmp_path / "none")
    assert "model.layers.9:output" in error_of(
        write_sae(tmp_path / "elsewhere", hook="blocks.9.hook_resid_post"))
    assert "has width 48" in error_of(write_sae(tmp_path / "wide", width=48))
    lost = write_sae(tmp_path / "lost", hook="some.module")
    assert "--site" in error_of(lost)
    assert "rotary_emb" in error_of(lost, "--site", "model.rotary_emb:output")
    foreign = write_sae(tmp_path / "foreign")
    config = json.loads((foreign / "cfg.json").read_text())
    config["metadata"]["activations"] = {"model": "Other", "model_sha256": "a" * 64}
    (foreign / "cfg.json").write_text(json.dumps(config))
    assert "was trained on model Other" in error_of(foreign)
    assert drivers.json("vyx-latents", "--model", tiny_model, "--sae", foreign, "--contrast",
                        tiny_pairs, "--allow-other-model")["prompts"]

    (tmp_path / "empty.jsonl").write_text("\n")
    assert "holds no pair" in error("--model", tiny_model, "--sae", sae, "--contrast",
                                    tmp_path / "empty.jsonl")
    (tmp_path / "special.jsonl"
     ).write_text(json.dumps({
         "positive": "glad<|im_end|>",
         "negative": "sad<|im_end|>"
     }) + "\n")
    assert "use --positions all" in error("--model", tiny_model, "--sae", sae, "--contrast",
                                          tmp_path / "special.jsonl", "--positions", "last")
    (tmp_path / "blank.txt").write_text(" \n")
    assert "found no text" in error(*base, "--text", tmp_path / "blank.txt")
    elsewhere = tmp_path / "elsewhere.gguf"
    drivers.json("vyx-vector", "--model", tiny_model, "--contrast", tiny_pairs, "--sites",
                 "model.layers.2", "--out", elsewhere)
    assert "model.layers.1:output" in error(*base, "--vector", elsewhere)


def test_usage(drivers):
    assert "--candidates" in drivers.run("vyx-latents", "--help").stdout
