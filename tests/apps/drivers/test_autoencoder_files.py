"""vyx-export --sae and vyx-inspect on an autoencoder's folder."""

import json

import pytest
import safetensors.torch
import torch

D, F, K = 8, 32, 3


@pytest.fixture
def sae(tmp_path):
    """A folder as SAELens writes it."""
    generator = torch.Generator().manual_seed(1)
    folder = tmp_path / "sae"
    folder.mkdir()
    weights = {"W_enc": (D, F), "b_enc": (F, ), "W_dec": (F, D), "b_dec": (D, )}
    safetensors.torch.save_file(
        {
            name: torch.randn(shape, generator=generator)
            for name, shape in weights.items()
        }, folder / "sae_weights.safetensors")
    metadata = {
        "sae_lens_version": "6.54.12",
        "model_name": "tiny",
        "hook_name": "blocks.2.hook_resid_post"
    }
    config = {
        "architecture": "topk",
        "d_in": D,
        "d_sae": F,
        "k": K,
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "dtype": "float32",
        "device": "cpu",
        "metadata": metadata
    }
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def test_inspect_shows_an_autoencoder_and_its_tensors(drivers, sae):
    report = drivers.json("vyx-inspect", sae)
    assert report["kind"] == "autoencoder" and report["format"] == "saelens" and report[
        "architecture"] == "topk"
    assert (report["d_in"], report["d_out"], report["latents"], report["k"]) == (D, D, F, K)
    assert report["sites"] == ["model.layers.2:output"
                               ] and report["metadata"]["model_name"] == "tiny"
    text = drivers.run("vyx-inspect", sae).stdout
    assert "an autoencoder (saelens), topk with 32 latents" in text
    assert "model.layers.2:output" in text
    tensors = drivers.json("vyx-inspect", sae / "sae_weights.safetensors")
    assert tensors["kind"] == "safetensors" and tensors["parameters"] == 2 * D * F + D + F
    assert {tensor["name"]: tensor["shape"] for tensor in tensors["tensors"]}["W_enc"] == [D, F]


def test_export_writes_a_module_that_runs_in_python(drivers, sae, tmp_path):
    report = drivers.json("vyx-export", "--sae", sae, "--out", tmp_path / "sae.pt")
    assert report["format"] == "torchscript" and report["latents"] == F
    module = torch.jit.load(str(tmp_path / "sae.pt"))
    weights = safetensors.torch.load_file(sae / "sae_weights.safetensors")
    x = torch.randn(2, 5, D, generator=torch.Generator().manual_seed(2))
    f = module.encode(x)
    assert f.shape == (2, 5, F) and ((f > 0).sum(-1) <= K).all() and (f > 0).any()
    expected = f @ weights["W_dec"] + weights["b_dec"]
    torch.testing.assert_close(module.decode(f), expected)
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("format", ["saelens", "sparsify", "dictionary-learning"])
def test_export_converts_and_what_it_writes_is_read(drivers, sae, tmp_path, format):
    drivers.json("vyx-export", "--sae", sae, "--format", format, "--out", tmp_path / "out")
    report = drivers.json("vyx-inspect", tmp_path / "out")
    assert report["format"] == format and report["architecture"] == "topk" and report["k"] == K
    assert report["decoder_norm"] == drivers.json("vyx-inspect", sae)["decoder_norm"]


def test_wrong_usage(drivers, sae, tiny_model, tmp_path):
    out = ("--out", tmp_path / "out.pt")
    assert "--model or --sae" in drivers.error("vyx-export", *out, code=2)
    assert "found no latent to change" in drivers.error("vyx-export", "--sae", sae, "--model",
                                                        tiny_model, *out, code=2)
    assert "saelens, sparsify" in drivers.error("vyx-export", "--sae", sae, "--format", "onnx",
                                                *out, code=2)
    assert "--vector has no effect without --model" in drivers.error("vyx-export", "--sae", sae,
                                                                     "--vector", "x.gguf", *out,
                                                                     code=2)
    assert "--format has no effect with --model" in drivers.error("vyx-export", "--model",
                                                                  tiny_model, "--vector", "x.gguf",
                                                                  "--format", "saelens", *out,
                                                                  code=2)


def test_bad_input(drivers, sae, tmp_path):
    assert "expected topk with layer_norm" in drivers.error("vyx-export", "--sae", sae, "--format",
                                                            "openai", "--out", tmp_path / "out.pt")
    assert "found architecture topk" in drivers.error("vyx-export", "--sae", sae, "--format",
                                                      "gemma-scope", "--out", tmp_path / "out")
    assert str(tmp_path / "no") in drivers.error("vyx-export", "--sae", sae, "--out",
                                                 tmp_path / "no" / "out.pt")
    assert "none of sae_weights.safetensors" in drivers.error("vyx-inspect", tmp_path)
    weights = safetensors.torch.load_file(sae / "sae_weights.safetensors")
    safetensors.torch.save_file(weights | {"W_dec": weights["W_dec"].T.contiguous()},
                                sae / "sae_weights.safetensors")
    line = drivers.error("vyx-export", "--sae", sae, "--out", tmp_path / "out.pt")
    assert 'sae_weights.safetensors: tensor "W_dec": found shape [8, 32], expected [32, 8]' in line
    (sae / "sae_weights.safetensors").write_bytes(
        (sae / "sae_weights.safetensors").read_bytes()[:-5])
    assert "bytes of data" in drivers.error("vyx-inspect", sae)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sae"]
