"""Latents changed in a tiny model: generated text, exports that stock Python runs, implicit
vectors, and bad input."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

WIDTH, LATENTS = 32, 48
SITE = "model.layers.1:output"


@pytest.fixture(scope="module")
def trained(drivers, tiny_model, text, tmp_path_factory):
    """A TopK autoencoder of the tiny model, as vyx-sae-train leaves it."""
    folder = tmp_path_factory.mktemp("trained")
    drivers.json("vyx-harvest", "--model", tiny_model, "--text", text, "--sites", SITE, "--tokens",
                 800, "--out", folder / "store")
    drivers.json("vyx-sae-train", "--activations", folder / "store", "--architecture", "topk",
                 "--latents", LATENTS, "--k", 8, "--batch", 64, "--steps", 60, "--lr", 2e-3,
                 "--out", folder / "sae")
    return folder / "sae"


def write_relu_sae(folder, hook="blocks.1.hook_resid_post", width=WIDTH, **weights):
    """A random ReLU autoencoder in SAELens's format, without latents.safetensors."""
    folder.mkdir()
    random = np.random.default_rng(5)
    normal = lambda *shape: random.standard_normal(shape).astype(np.float32)
    tensors = {
        "W_enc": normal(width, LATENTS) * 0.2,
        "b_enc": normal(LATENTS) * 0.1,
        "W_dec": normal(LATENTS, width),
        "b_dec": normal(width) * 0.1
    }
    save_file(tensors | weights, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(
        json.dumps({
            "architecture": "standard",
            "d_in": width,
            "d_sae": LATENTS,
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": True,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": {
                "hook_name": hook,
                "sae_lens_version": "6.0.0"
            }
        }))
    return folder


@pytest.fixture(scope="module")
def relu(tmp_path_factory):
    return write_relu_sae(tmp_path_factory.mktemp("sae") / "relu")


def generate(drivers, model, *args):
    return drivers.json("vyx-generate", "--model", model, "--prompt", "Hello", "--max-tokens", 12,
                        "--ignore-end", *args)["tokens"]


def strongest(sae):
    """The latent with the largest activation in training, and that activation."""
    maximum = load_file(sae / "latents.safetensors")["maximum"]
    return int(maximum.argmax()), float(maximum.max())


def test_training_leaves_the_largest_activations(trained):
    latents = load_file(trained / "latents.safetensors")
    assert latents["maximum"].shape == latents["firings"].shape == (LATENTS, )
    with safe_open(trained / "latents.safetensors", "np") as file:
        tokens = int(file.metadata()["tokens"])
    assert tokens == 512  # an eighth of the run, in whole batches
    assert latents["firings"].sum() == pytest.approx(8 * tokens, rel=0.02)
    assert ((latents["maximum"] > 0) == (latents["firings"] > 0)).all()


def test_generate_changes_latents(drivers, tiny_model, trained):
    latent, maximum = strongest(trained)
    change = lambda *values: generate(drivers, tiny_model, "--sae", trained,
                                      *(arg for value in values for arg in ("--latent", value)))
    baseline = generate(drivers, tiny_model)
    assert change(f"{latent}=*1") == change(f"{latent}=+0") == baseline
    set_high = change(f"{latent}=8x")
    assert set_high != baseline and set_high == change(f"{latent}={8 * maximum!r}")
    assert change(f"{latent}=clamp:8x:") == set_high
    assert generate(drivers, tiny_model, "--sae", trained, "--without-error") != baseline
    nowhere = ("--latent", f"{latent}=8x", "--when", f"{latent}>1000x")
    assert generate(drivers, tiny_model, "--sae", trained, *nowhere) == baseline
    assert generate(drivers, tiny_model, "--sae", trained, "--latent", f"{latent}=8x", "--when",
                    f"{latent}>-1") == set_high


def test_positions_and_vectors_go_with_latents(drivers, tiny_model, tiny_vector, trained):
    latent, _ = strongest(trained)
    both = ("--sae", trained, "--latent", f"{latent}=8x")
    assert generate(drivers, tiny_model, *both, "--positions",
                    "generated") != generate(drivers, tiny_model)
    assert generate(drivers, tiny_model, *both, "--vector",
                    f"{tiny_vector}=0") == generate(drivers, tiny_model, *both)
    assert generate(drivers, tiny_model, *both, "--vector",
                    f"{tiny_vector}=20") != generate(drivers, tiny_model, *both)


def test_golden_model_in_stock_python(drivers, tiny_model, trained, tmp_path):
    latent, maximum = strongest(trained)
    other = (latent + 1) % LATENTS
    out = tmp_path / "golden.pt"
    report = drivers.json("vyx-export", "--model", tiny_model, "--sae", trained, "--latent",
                          f"{latent}=8x", "--latent", other, "--out", out)
    assert report["sites"] == [SITE]
    assert generate(drivers, out) == generate(drivers, tiny_model, "--sae", trained, "--latent",
                                              f"{latent}=8x")

    ids = torch.tensor([[1, 40, 50, 60]])
    with torch.no_grad():
        plain, golden = torch.jit.load(tiny_model)(ids), torch.jit.load(out)
        at_8 = golden(ids)
        assert not torch.equal(at_8, plain)
        golden.set_coefficient(0.0)
        assert torch.equal(golden(ids), plain)
        golden.set_coefficient(1.0)
        golden.clear_latent(latent)
        assert torch.equal(golden(ids), plain)
        golden.set_latent(other, 5.0)  # which had no value yet
        assert not torch.equal(golden(ids), plain)
        golden.clear_latent(other)
        golden.set_latent(latent, 8 * maximum)
        assert torch.equal(golden(ids), at_8)
        with pytest.raises(Exception,
                           match=f"cannot be set in this model, which has {latent}, {other}"):
            golden.set_latent((latent + 2) % LATENTS, 1.0)


def test_vectors_and_latents_in_one_export(drivers, tiny_model, tiny_vector, relu, tmp_path):
    out = tmp_path / "both.pt"
    both = ("--vector", f"{tiny_vector}=2", "--sae", relu, "--latent", "5=12", "--latent", "6=*0",
            "--when", "7>0.1")
    drivers.json("vyx-export", "--model", tiny_model, *both, "--out", out)
    assert generate(drivers, out) == generate(drivers, tiny_model, *both) != generate(
        drivers, tiny_model, *both[:2])


def test_the_exported_autoencoder_has_an_implicit_vector(drivers, relu, tmp_path):
    drivers.json("vyx-export", "--sae", relu, "--out", tmp_path / "sae.pt")
    sae = torch.jit.load(tmp_path / "sae.pt")
    w = {
        name: torch.from_numpy(array)
        for name, array in load_file(relu / "sae_weights.safetensors").items()
    }
    x = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(1))
    f = torch.relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    sae.set_latent(5, 3.0)
    sae.set_latent(9, 0.0)
    v = (3 - f[..., 5:6]) * w["W_dec"][5] - f[..., 9:10] * w["W_dec"][9]
    torch.testing.assert_close(sae.implicit_vector(x), v, rtol=1e-5, atol=1e-5)
    sae.clear_latents()
    assert not sae.implicit_vector(x).any()


def test_an_added_latent_is_a_control_vector(drivers, tiny_model, relu, text, tmp_path):
    v, gguf = tmp_path / "v.safetensors", tmp_path / "v.gguf"
    latent = ("--sae", relu, "--latent", "5=+6")
    report = drivers.json("vyx-implicit", "--model", tiny_model, *latent, "--text", text,
                          "--tokens", 300, "--out", v, "--gguf", gguf)
    assert report["site"] == SITE and report["tokens"] == 300
    assert report["spread"] == pytest.approx(
        0, abs=1e-6) and report["mean_cosine"] == pytest.approx(1, abs=1e-5)
    row = 6 * load_file(relu / "sae_weights.safetensors")["W_dec"][5]
    tensors = load_file(v)
    assert tensors["vectors"].shape == (
        300, WIDTH) and tensors["norms"].shape == tensors["cosines"].shape == (300, )
    for name in ("tokens", "contexts", "positions"):
        assert tensors[name].dtype == np.int64 and tensors[name].shape == (300, )
    np.testing.assert_allclose(tensors["mean"], row, rtol=1e-4, atol=1e-4)
    assert report["mean_norm"] == pytest.approx(np.linalg.norm(row), rel=1e-4)
    assert drivers.json("vyx-inspect", gguf)["kind"] == "control vector"
    steered = generate(drivers, tiny_model, "--vector", gguf)
    assert steered == generate(drivers, tiny_model, *latent) != generate(drivers, tiny_model)


def test_a_set_latent_is_no_constant(drivers, tiny_model, trained, text, tmp_path):
    latent, _ = strongest(trained)
    run = lambda value: drivers.json("vyx-implicit", "--model", tiny_model, "--sae", trained,
                                     "--latent", f"{latent}={value}", "--text", text, "--tokens",
                                     400, "--out", tmp_path / "v.safetensors")
    off, high = run("0"), run("20x")
    assert 1 > off["spread"] > high[
        "spread"] > 0  # the more it is turned up, the less it matters where it fired
    vectors = load_file(tmp_path / "v.safetensors")["vectors"].astype(np.float64)
    mean = vectors.mean(0)
    assert high["spread"] == pytest.approx(1 - (mean @ mean) / (vectors**2).sum(1).mean(), rel=1e-6)


def test_each_implicit_vector_has_its_token_and_place(drivers, tiny_model, trained, tmp_path):
    latent, _ = strongest(trained)
    (tmp_path / "t.txt").write_text("abcab" * 20)
    drivers.json("vyx-implicit", "--model", tiny_model, "--sae", trained, "--latent",
                 f"{latent}=20x", "--text", tmp_path / "t.txt", "--context", 16, "--tokens", 90,
                 "--out", tmp_path / "v.safetensors")
    v = load_file(tmp_path / "v.safetensors")
    byte = {
        letter: 3 + ord(letter)
        for letter in "abc"
    }  # the tiny model's token of a byte comes after three special ones
    place = 16 * v["contexts"] + v["positions"]
    assert v["positions"].max() <= 15 and (np.diff(place) > 0).all()
    for token, at in zip(v["tokens"], place):
        assert token == byte["abcab"[at % 5]]


@pytest.mark.parametrize("value, expected", [("five=1", "not the number of a latent"),
                                             ("-3=1", "not the number of a latent"),
                                             ("5", "expected I=NUMBER"),
                                             ("5=", "not a finite number"),
                                             ("5=ten", "not a finite number"),
                                             ("5=1e999", "not a finite number"),
                                             ("5=x", "not a finite number"),
                                             ("5=*2x", "a factor has no x"),
                                             ("5=clamp:1", "clamp:LOW:HIGH"),
                                             ("5=clamp::3", "not a finite number")])
def test_values_that_say_nothing(drivers, tiny_model, relu, value, expected):
    line = drivers.error("vyx-generate", "--model", tiny_model, "--prompt", "x", "--sae", relu,
                         f"--latent={value}", code=2)
    assert expected in line and value in line


def test_latents_that_cannot_be_changed(drivers, tiny_model, relu, trained, text, tmp_path):
    error = lambda *args, **code: drivers.error("vyx-generate", "--model", tiny_model, "--prompt",
                                                "x", *args, **code)
    assert "latent 48: the autoencoder has latents 0 to 47" in error("--sae", relu, "--latent",
                                                                     "48=1")
    assert "latents 0 to 47" in error("--sae", trained, "--latent", "48=2x")
    assert "latent 5: found two changes" in error("--sae", relu, "--latent", "5=1", "--latent",
                                                  "5=2")
    assert "latent 77" in error("--sae", relu, "--latent", "5=1", "--when", "77>0")
    assert "found a clamp to 3" in error("--sae", relu, "--latent", "5=clamp:3:1")
    assert "--when 7: expected J>NUMBER" in error("--sae", relu, "--latent", "5=1", "--when", "7",
                                                  code=2)
    assert "--latent has no effect without --sae" in error("--latent", "5=1", code=2)
    assert "--when has no effect without --latent" in error("--sae", relu, "--without-error",
                                                            "--when", "5>1", code=2)
    line = error("--sae", relu, "--latent", "5=10x")
    for words in ("latents.safetensors: not found", "vyx-sae-eval --sae", "--latents-out"):
        assert words in line
    assert "sae/nothing" in error("--sae", "sae/nothing", "--latent", "5=1")
    assert "which the model has not" in error("--sae", relu, "--site", "model.layers.9", "--latent",
                                              "5=1")
    assert "which the model has not" in error("--sae", relu, "--site", "model.layers.*", "--latent",
                                              "5=1")
    nowhere = write_relu_sae(tmp_path / "nowhere", hook="")
    assert "--site" in error("--sae", nowhere, "--latent", "5=1")
    wide = write_relu_sae(tmp_path / "wide", width=40)
    assert "has width 40" in error("--sae", wide, "--latent", "5=1")

    out = tmp_path / "v.safetensors"
    implicit = lambda *args, **code: drivers.error("vyx-implicit", "--model", tiny_model, "--text",
                                                   text, "--out", out, *args, **code)
    assert "expected --sae and --latent" in implicit(code=2)
    assert "--sae has no effect without --latent" in implicit("--sae", relu, code=2)
    assert "--tokens 0" in implicit("--sae", relu, "--latent", "5=1", "--tokens", 0, code=2)
    (tmp_path / "empty.txt").write_text("")
    assert "empty.txt" in drivers.error("vyx-implicit", "--model", tiny_model, "--text",
                                        tmp_path / "empty.txt", "--out", out, "--sae", relu,
                                        "--latent", "5=1")
    assert not out.exists()


def test_a_latent_that_never_fired_has_no_multiple(drivers, tiny_model, trained, tmp_path):
    latents = load_file(trained / "latents.safetensors")
    copy = tmp_path / "sae"
    copy.mkdir()
    for name in ("cfg.json", "sae_weights.safetensors"):
        (copy / name).write_bytes((trained / name).read_bytes())
    latents["maximum"][7] = 0
    save_file(latents, copy / "latents.safetensors", {"tokens": "512"})
    line = drivers.error("vyx-generate", "--model", tiny_model, "--prompt", "x", "--sae", copy,
                         "--latent", "7=2x")
    assert "latent 7" in line and "none of the 512 tokens" in line
