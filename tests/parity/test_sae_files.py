"""Autoencoders in files, in both directions: with SAELens itself, and with files made by torch,
numpy and safetensors in the layouts of the others, computed independently here."""

import json
import os
import subprocess
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from conftest import ROOT

D, F, K, ROWS = 16, 64, 7, 50
SAELENS = ROOT / ".deps/saelens/bin/python"
SCRIPT = ROOT / "tests/parity/saelens_files.py"
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def ok(result):
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode().strip()


def rows(path):
    return torch.from_numpy(np.fromfile(path, dtype="<f4")).reshape(ROWS, -1)


@pytest.fixture
def vyx(run, tmp_path):
    """vyx(sae, x): latents and reconstruction; vyx.convert(sae, format, out)."""
    def call(sae, x):
        x.numpy().tofile(tmp_path / "x.f32")
        ok(
            run("parity-sae-files", "run", sae, tmp_path / "x.f32", tmp_path / "f.f32",
                tmp_path / "y.f32"))
        return rows(tmp_path / "f.f32"), rows(tmp_path / "y.f32")

    call.convert = lambda *args: ok(run("parity-sae-files", "convert", *args))
    return call


def check(actual, expected):
    for a, e in zip(actual, expected):
        torch.testing.assert_close(a, e, **CLOSE)
    assert (expected[0] > 0).any() and (expected[0] == 0).any()


# --- SAELens


def saelens(*args):
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "WANDB_MODE": "disabled"
    }
    result = subprocess.run([SAELENS, SCRIPT, *map(str, args)], capture_output=True, timeout=900,
                            env=environment)
    assert result.returncode == 0, result.stderr.decode()[-4000:]
    return result.stdout.decode().strip().splitlines()


CASES = """standard standard_no_b_dec gated gated_no_b_dec topk topk_rescaled jumprelu token_norm
layer_norm transcoder skip_transcoder jumprelu_transcoder jumprelu_skip_transcoder trained_standard
trained_gated trained_topk trained_jumprelu trained_batchtopk trained_batchtopk_plain
trained_matryoshka checkpoint_topk checkpoint_jumprelu checkpoint_batchtopk checkpoint_matryoshka
checkpoint_scaled v3_standard v4_topk v5_jumprelu""".split()


@pytest.fixture(scope="module")
def exchange(run, tmp_path_factory):
    """SAELens's autoencoders, what vyx makes of them, and what SAELens makes of that. {case: (vyx's
    architecture, SAELens's)}"""
    if not SAELENS.exists():
        pytest.skip(f"{SAELENS}: not there; ./vyx test installs it")
    root = tmp_path_factory.mktemp("saelens")
    saelens("make", root)
    assert sorted(path.name for path in root.iterdir()) == sorted(CASES)
    architectures = {}
    for case in CASES:
        folder = root / case
        architectures[case] = json.loads(
            ok(
                run("parity-sae-files", "run", folder / "sae", folder / "x.f32",
                    folder / "f_read.f32", folder / "y_read.f32")))
        ok(run("parity-sae-files", "convert", folder / "sae", "saelens", folder / "vyx"))
    written = json.loads(saelens("run", root)[-1])
    return root, {case: (architectures[case], written[case]) for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_saelens_in_both_directions(exchange, case):
    root, architectures = exchange
    expected = [rows(root / case / f"{name}.f32") for name in "fy"]
    check([rows(root / case / f"{name}_read.f32") for name in "fy"], expected)
    check([rows(root / case / f"{name}_vyx.f32") for name in "fy"], expected)


def test_saelens_architectures_are_kept(exchange):
    _, architectures = exchange
    batch = {
        "trained_batchtopk", "trained_batchtopk_plain", "trained_matryoshka",
        "checkpoint_batchtopk", "checkpoint_matryoshka", "checkpoint_scaled"
    }
    for case, (vyx_name, saelens_name) in architectures.items():
        if case in batch:
            assert (vyx_name, saelens_name) == ("batch-topk", "jumprelu")
        else:
            words = case.split("_")
            for name, other in (("topk", "topk"), ("gated", "gated"), ("jumprelu", "jump-relu"),
                                ("standard", "relu")):
                if name in words:
                    assert vyx_name == other
                    assert saelens_name.startswith(name)


# --- the same weights in other layouts


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: 0.3 * torch.randn(*shape, generator=generator)
    return {
        "W_enc": normal(D, F),
        "b_enc": normal(F),
        "W_dec": normal(F, D),
        "b_dec": normal(D),
        "threshold": normal(F).abs(),
        "r_mag": normal(F),
        "b_mag": normal(F),
        "x": 3 * torch.randn(ROWS, D, generator=generator),
    }


def topk(z, k=K):
    values, indices = z.topk(k, dim=-1)
    return torch.zeros_like(z).scatter(-1, indices, values.relu())


def linear_state(w, bias):
    """A state_dict with _metadata and parameters, as a module's has."""
    module = nn.Module()
    module.encoder, module.decoder = nn.Linear(D, F), nn.Linear(F, D, bias=False)
    module.encoder.weight.data, module.encoder.bias.data = w["W_enc"].T.contiguous(), w["b_enc"]
    module.decoder.weight.data = w["W_dec"].T  # strided in the file, too
    module.register_parameter(bias, nn.Parameter(w["b_dec"]))
    return module.state_dict()


def dictionary_learning(name, w, tmp_path):
    """Writes dictionary_learning's layout of class `name`; returns the latents and the
    reconstruction."""
    trainer = {
        "dict_class": name,
        "activation_dim": D,
        "dict_size": F,
        "lm_name": "tiny",
        "layer": 3
    }
    pre = (w["x"] - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    if name == "AutoEncoder":
        state, f = linear_state(w, "bias"), pre.relu()
    elif name == "AutoEncoderNew":
        state = linear_state(w, "b")
        state["decoder.bias"] = state.pop("b")
        f = (w["x"] @ w["W_enc"] + w["b_enc"]).relu()
    elif name == "GatedAutoEncoder":
        state = linear_state(w, "decoder_bias")
        del state["encoder.bias"]
        state |= {"r_mag": w["r_mag"], "gate_bias": w["b_enc"], "mag_bias": w["b_mag"]}
        z = (w["x"] - w["b_dec"]) @ w["W_enc"]
        f = (z + w["b_enc"] > 0) * (z * w["r_mag"].exp() + w["b_mag"]).relu()
    elif name == "JumpReluAutoEncoder":
        state = OrderedDict(
            (key, w[key]) for key in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"))
        z = w["x"] @ w["W_enc"] + w["b_enc"]
        f = (z * (z > w["threshold"])).relu()
    else:
        buffers = {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(0.4)}
        trainer["k"] = K
        f = topk(pre) if name == "AutoEncoderTopK" else pre.relu() * (pre.relu() > 0.4)
        if name == "MatryoshkaBatchTopKSAE":
            state = {
                key: w[key]
                for key in ("W_enc", "b_enc", "W_dec", "b_dec")
            } | buffers | {
                "group_sizes": torch.tensor([8, 24, F - 32])
            }
        else:
            state = linear_state(w, "b_dec") | buffers
    torch.save(state, tmp_path / "ae.pt")
    (tmp_path / "config.json").write_text(
        json.dumps({
            "trainer": trainer,
            "buffer": {
                "ctx_len": 128
            }
        }))
    return f, f @ w["W_dec"] + w["b_dec"]


DICTIONARIES = """AutoEncoder AutoEncoderNew GatedAutoEncoder JumpReluAutoEncoder AutoEncoderTopK
BatchTopKSAE MatryoshkaBatchTopKSAE""".split()


@pytest.mark.parametrize("name", DICTIONARIES)
def test_dictionary_learning_is_read(vyx, tmp_path, name):
    w = weights()
    expected = dictionary_learning(name, w, tmp_path)
    check(vyx(tmp_path, w["x"]), expected)


@pytest.mark.parametrize("name", [name for name in DICTIONARIES if name != "AutoEncoderNew"])
def test_dictionary_learning_is_written(vyx, tmp_path, name):
    w = weights()
    dictionary_learning(name, w, tmp_path)
    original = torch.load(tmp_path / "ae.pt", weights_only=True)
    vyx.convert(tmp_path, "dictionary-learning", tmp_path / "out")
    state = torch.load(tmp_path / "out" / "ae.pt", weights_only=True)
    assert set(state) == set(original)
    for key, tensor in original.items():
        expected = torch.tensor(-1.0) if (name, key) == ("AutoEncoderTopK", "threshold") else tensor
        assert state[key].dtype == expected.dtype
        torch.testing.assert_close(state[key], expected, rtol=0, atol=0)
    assert json.loads(
        (tmp_path / "out" / "config.json").read_text())["trainer"]["dict_class"] == name


def layer_normed(x):
    mean = x.mean(-1, keepdim=True)
    deviation = (x - mean).std(-1, keepdim=True)
    return (x - mean) / (deviation + 1e-5), mean, deviation


@pytest.mark.parametrize("activation", ["TopK", "ReLU"])
def test_openai_in_both_directions(vyx, tmp_path, activation):
    w = weights(1)
    x, mean, deviation = layer_normed(w["x"]) if activation == "TopK" else (w["x"], 0, 1)
    pre = (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    f = topk(pre) if activation == "TopK" else pre.relu()
    expected = f, (f @ w["W_dec"] + w["b_dec"]) * deviation + mean
    state = OrderedDict(
        pre_bias=w["b_dec"],
        latent_bias=w["b_enc"],
        stats_last_nonzero=torch.zeros(F, dtype=torch.long),
        latents_activation_frequency=torch.ones(F),
        latents_mean_square=torch.zeros(F),
    )
    state["encoder.weight"], state["decoder.weight"] = w["W_enc"].T.contiguous(
    ), w["W_dec"].T.contiguous()
    state["activation"] = activation
    state["activation_state_dict"] = {
        "k": K,
        "postact_fn": "ReLU"
    } if activation == "TopK" else OrderedDict()
    torch.save(state, tmp_path / "sae.pt")
    check(vyx(tmp_path / "sae.pt", w["x"]), expected)
    vyx.convert(tmp_path / "sae.pt", "openai", tmp_path / "out.pt")
    written = torch.load(tmp_path / "out.pt", weights_only=True)
    assert set(written) == set(state)
    for key, value in state.items():
        if isinstance(value, torch.Tensor):
            assert written[key].dtype == value.dtype and torch.equal(written[key], value)
        else:
            assert written[key] == value
    assert all(tensor.data_ptr() % 64 == 0
               for tensor in torch.load(tmp_path / "out.pt", weights_only=True, mmap=True).values()
               if isinstance(tensor, torch.Tensor) and tensor.numel() > 16)


@pytest.mark.parametrize("transcode,skip", [(False, False), (True, False), (True, True)])
def test_sparsify_in_both_directions(vyx, tmp_path, transcode, skip):
    w = weights(2)
    state = {
        "encoder.weight": w["W_enc"].T.contiguous(),
        "encoder.bias": w["b_enc"],
        "W_dec": w["W_dec"],
        "b_dec": w["b_dec"]
    }
    x = w["x"]
    f = topk((x if transcode else x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    y = f @ w["W_dec"] + w["b_dec"]
    if skip:
        state["W_skip"] = torch.randn(D, D, generator=torch.Generator().manual_seed(3))
        y = y + x @ state["W_skip"].T
    config = {
        "activation": "topk",
        "expansion_factor": F // D,
        "normalize_decoder": True,
        "num_latents": 0,
        "k": K,
        "multi_topk": False,
        "skip_connection": skip,
        "transcode": transcode,
        "d_in": D
    }
    safetensors.torch.save_file(state, tmp_path / "sae.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    check(vyx(tmp_path, x), (f, y))
    vyx.convert(tmp_path, "sparsify", tmp_path / "out")
    assert (tmp_path / "out/sae.safetensors").read_bytes() == (tmp_path /
                                                               "sae.safetensors").read_bytes()
    written = json.loads((tmp_path / "out/cfg.json").read_text())
    assert written.pop("num_latents") == F
    assert written == {
        key: value
        for key, value in config.items() if key != "num_latents"
    } | {
        "normalize_decoder": False
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_gemma_scope_in_both_directions(vyx, tmp_path, save):
    w = weights(4)
    arrays = {key: w[key].numpy() for key in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")}
    save(tmp_path / "params.npz", **arrays)
    z = w["x"] @ w["W_enc"] + w["b_enc"]
    f = z * (z > w["threshold"])
    check(vyx(tmp_path, w["x"]), (f, f @ w["W_dec"] + w["b_dec"]))
    vyx.convert(tmp_path, "gemma-scope", tmp_path / "out")
    with np.load(tmp_path / "out/params.npz") as written:
        assert set(written.files) == set(arrays)
        for key, array in arrays.items():
            np.testing.assert_array_equal(written[key], array)


def test_gemma_scope_2_in_both_directions(vyx, tmp_path):
    w = weights(5)
    tensors = {
        "w_enc": w["W_enc"],
        "w_dec": w["W_dec"],
        "b_enc": w["b_enc"],
        "b_dec": w["b_dec"],
        "threshold": w["threshold"]
    }
    tensors["affine_skip_connection"] = torch.randn(D, D,
                                                    generator=torch.Generator().manual_seed(6))
    safetensors.torch.save_file(tensors, tmp_path / "params.safetensors")
    z = w["x"] @ w["W_enc"] + w["b_enc"]
    f = z * (z > w["threshold"])
    check(vyx(tmp_path, w["x"]),
          (f, f @ w["W_dec"] + w["b_dec"] + w["x"] @ tensors["affine_skip_connection"]))
    vyx.convert(tmp_path, "gemma-scope-2", tmp_path / "out")
    assert (tmp_path /
            "out/params.safetensors").read_bytes() == (tmp_path /
                                                       "params.safetensors").read_bytes()


# --- TorchScript


@pytest.mark.parametrize(
    "name",
    ["AutoEncoder", "GatedAutoEncoder", "JumpReluAutoEncoder", "AutoEncoderTopK", "BatchTopKSAE"])
def test_the_exported_module_runs_in_stock_python(vyx, tmp_path, name):
    w = weights(7)
    expected = dictionary_learning(name, w, tmp_path)
    vyx.convert(tmp_path, "torchscript", tmp_path / "sae.ts")
    f, y = vyx(tmp_path, w["x"])
    module = torch.jit.load(str(tmp_path / "sae.ts"))
    with torch.inference_mode():
        for _ in range(3):  # the interpreter specialises
            latents = module.encode(w["x"])
            check((latents, module.decode(latents)), expected)
            torch.testing.assert_close(latents, f, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(module(w["x"]), y, rtol=1e-6, atol=1e-6)
    assert module(w["x"].reshape(5, 10, D)).shape == (5, 10, D)
    assert dict(module.named_parameters())["W_enc"].shape == (F, D)


# --- safetensors


def test_safetensors_are_the_same_bytes(run, tmp_path):
    generator = torch.Generator().manual_seed(8)
    tensors = {
        f"{dtype}".removeprefix("torch.") + "☃":
        torch.randint(0, 2, (3, 5), generator=generator).to(dtype)
        for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64,
                      torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16,
                      torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2,
                      torch.complex64)
    }
    tensors |= {
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(3.5),
        "quote\"\n\t\\/": torch.randn(7, generator=generator)
    }
    for metadata in (None, {"format": "pt"}):
        safetensors.torch.save_file(tensors, tmp_path / "a.safetensors", metadata)
        ok(
            run("parity-sae-files", "safetensors", tmp_path / "a.safetensors",
                tmp_path / "b.safetensors"))
        assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path /
                                                             "b.safetensors").read_bytes()


@pytest.mark.parametrize("size", [10, 100, 200])
def test_both_refuse_a_safetensors_file_that_is_cut(run, tmp_path, size):
    safetensors.torch.save_file({"a": torch.zeros(100)}, tmp_path / "a.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:size])
    with pytest.raises(Exception):
        safetensors.torch.load_file(tmp_path / "cut.safetensors")
    result = run("parity-sae-files", "safetensors", tmp_path / "cut.safetensors",
                 tmp_path / "b.safetensors")
    assert result.returncode == 1 and b"cut.safetensors" in result.stderr
