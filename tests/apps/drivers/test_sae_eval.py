"""vyx-sae-eval on a tiny model, a store harvested from it, and an autoencoder whose reconstruction
is known."""

import json

import pytest
from safetensors.numpy import load_file

from conftest import write_sae

WIDTH = 32


@pytest.fixture(scope="module")
def store(drivers, tiny_model, text, tmp_path_factory):
    out = tmp_path_factory.mktemp("stores") / "store"
    drivers.json("vyx-harvest", "--model", tiny_model, "--text", text, "--sites",
                 "model.layers.1:output", "--tokens", 600, "--dtype", "float32", "--out", out)
    return out


@pytest.fixture(scope="module")
def sae(tmp_path_factory):
    return write_sae(tmp_path_factory.mktemp("sae") / "half", scale=0.5)


def test_figures_of_a_known_reconstruction(drivers, sae, store):
    report = drivers.json("vyx-sae-eval", "--sae", sae, "--activations", store, "--rows", 0)
    metrics = report["metrics"]
    rows = json.loads((store / "manifest.json").read_text())["rows"]
    assert metrics["tokens"] == rows > 100
    assert metrics["normalized_mse"] == pytest.approx(0.25)
    assert metrics["l2_ratio"] == pytest.approx(0.5)
    assert metrics["cosine"] == pytest.approx(1)
    assert metrics["relative_reconstruction_bias"] == pytest.approx(0.5)
    assert metrics["l0"] == pytest.approx(WIDTH)  # one sign of each coordinate
    assert sum(metrics["density_histogram"]["latents"]) == 2 * WIDTH
    assert report["sites"] == ["model.layers.1:output"] and "recovered" not in report


def test_rows_are_drawn_by_the_seed(drivers, sae, store):
    def run(*args):
        return drivers.json("vyx-sae-eval", "--sae", sae, "--activations", store, "--rows", 100,
                            *args)["metrics"]

    assert run()["tokens"] == 100
    assert run("--seed", 1) == run("--seed", 1) != run("--seed", 2)
    assert run("--threads", 1) == run("--threads", 2)


def test_latents_are_written_for_later_edits(drivers, sae, store, tmp_path):
    report = drivers.json("vyx-sae-eval", "--sae", sae, "--activations", store, "--latents-out",
                          tmp_path / "latents.safetensors")
    latents = load_file(tmp_path / "latents.safetensors")
    assert latents["maximum"].shape == latents["firings"].shape == (2 * WIDTH, )
    assert latents["firings"].sum() / report["metrics"]["tokens"] == pytest.approx(
        report["metrics"]["l0"])
    assert (latents["maximum"] > 0).all()


def test_what_a_model_recovers(drivers, tiny_model, text, sae, tmp_path):
    perfect = write_sae(tmp_path / "perfect")
    out = tmp_path / "report.json"
    args = ("--model", tiny_model, "--text", text, "--tokens", 500, "--context", 64)
    report = drivers.json("vyx-sae-eval", "--sae", perfect, *args, "--out", out)
    assert json.loads(out.read_text()) == report
    recovered = report["recovered"]
    assert recovered["replaced"] + recovered["left"] == 500 and recovered["tokens"] < 500
    assert recovered["reconstruction"]["kl"] == pytest.approx(0, abs=1e-5)
    assert recovered["against_zero"]["kl_score"] == pytest.approx(1, abs=1e-4)
    half = drivers.json("vyx-sae-eval", "--sae", sae, *args)["recovered"]
    assert half["clean"] == recovered["clean"] and half["zero"] == recovered["zero"]
    assert half["against_mean"]["kl_score"] < 0.99


def test_the_table_names_each_figure(drivers, tiny_model, text, sae, store):
    result = drivers.run("vyx-sae-eval", "--sae", sae, "--activations", store, "--model",
                         tiny_model, "--text", text, "--tokens", 200)
    assert result.returncode == 0, result.stderr
    for words in ("explained variance", "normalised MSE", "L0", "dead latents", "CE recovered",
                  "zero ablation", "left as they are"):
        assert words in result.stdout


def test_bad_input_is_one_line(drivers, tiny_model, text, sae, store, tmp_path):
    def error(*args, code=1):
        return drivers.error("vyx-sae-eval", *args, code=code)

    assert "nothing to measure on" in error("--sae", sae, code=2)
    assert "expected both" in error("--sae", sae, "--model", tiny_model, code=2)
    assert "expected at most 512" in error("--sae", sae, "--model", tiny_model, "--text", text,
                                           "--context", 9999, code=2)
    assert str(tmp_path / "none") in error("--sae", tmp_path / "none", "--activations", store)
    assert str(tmp_path / "none") in error("--sae", sae, "--activations", tmp_path / "none")
    assert str(tmp_path / "none.txt") in error("--sae", sae, "--model", tiny_model, "--text",
                                               tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text(" \n")
    assert "found no text" in error("--sae", sae, "--model", tiny_model, "--text",
                                    tmp_path / "empty.txt")
    elsewhere = write_sae(tmp_path / "elsewhere", hook="blocks.2.hook_resid_post")
    assert "model.layers.2:output" in error("--sae", elsewhere, "--activations", store)
    wide = write_sae(tmp_path / "wide", width=48)
    assert "found rows of width 32, expected 48" in error("--sae", wide, "--activations", store)
    assert "found activations of width 32, expected 48" in error("--sae", wide, "--model",
                                                                 tiny_model, "--text", text)
    lost = write_sae(tmp_path / "lost", hook="some.module")
    assert "--site" in error("--sae", lost, "--activations", store)
    report = tmp_path / "no" / "report.json"
    assert str(report) in error("--sae", sae, "--activations", store, "--out", report)
    assert drivers.json("vyx-sae-eval", "--sae", lost, "--activations", store, "--site",
                        "model.layers.1:output")["metrics"]["l0"] == WIDTH


def test_usage(drivers):
    assert "--latents-out" in drivers.run("vyx-sae-eval", "--help").stdout


def test_what_is_wrong_with_the_figures_stands_beside_them(drivers, tiny_model, text, sae, store,
                                                           tmp_path):
    upside_down = write_sae(tmp_path / "upside_down", scale=-1.0)
    result = drivers.run("vyx-sae-eval", "--sae", upside_down, "--activations", store, "--model",
                         tiny_model, "--text", text, "--tokens", 200, "--json")
    assert result.returncode == 0, result.stderr
    warnings = json.loads(result.stdout)["warnings"]
    assert any("explained variance" in warning and "below 0" in warning for warning in warnings)
    for warning in warnings:
        assert f"warning: {upside_down}: {warning}" in result.stderr
    perfect = write_sae(tmp_path / "perfect")
    assert drivers.json("vyx-sae-eval", "--sae", perfect, "--activations", store)["warnings"] == []


def test_a_device_that_nothing_would_run_on_is_refused(drivers, sae, store):
    line = drivers.error("vyx-sae-eval", "--sae", sae, "--activations", store, "--device", "cuda",
                         code=2)
    assert "--device has no effect without --model" in line
