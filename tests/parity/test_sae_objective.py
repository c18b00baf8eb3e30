"""Losses and gradients against SAELens's own, on the same weights and batch, and AuxK against the
formula of Gao et al. Where SAELens means something else, the test says so:
- AuxK: SAELens scales by dead/k_aux instead of 1/Var(e), and lets latents below zero take part.
  Compared without dead latents, where neither has a term; vyx's AuxK is held to OpenAI's formula.
- Its quadratic L0 loss is of each token's L0, vyx's of the batch's mean: not compared.
- TopK rescales activations by decoder norms by default: turned off."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SAELENS = Path(os.environ.get("VYX_SAELENS_PYTHON", ROOT / ".deps/saelens/bin/python"))
SIZE = {"d": 48, "latents": 300, "rows": 200, "seed": 5}


def case(kind, saelens, coefficients=None, **options):
    return {
        **SIZE, "kind": kind,
        "architecture": "batch-topk" if kind == "matryoshka" else kind,
        "subtract_decoder_bias": True,
        "saelens": saelens,
        "coefficients": coefficients or {},
        **options
    }


def relu(**options):
    return case("relu", {"l1_coefficient": 0.7}, {"l1": 0.7}, sparsity=0.7, **options)


def jump_relu(mode, bandwidth, through_input=False, **options):
    saelens = {
        "l0_coefficient": 0.3,
        "jumprelu_bandwidth": bandwidth,
        "jumprelu_sparsity_loss_mode": mode,
        "jumprelu_ste_to_input": through_input
    }
    options["straight_through_input"] = through_input
    if mode == "tanh":
        saelens["pre_act_loss_coefficient"] = 0.02
        options = {
            "jump_relu": "tanh",
            "pre_activation": 0.02,
            "pre_activation_of_dead": True,
            **options
        }
    return case("jump-relu", saelens, {"l0": 0.3}, sparsity=0.3, bandwidth=bandwidth, **options)


CASES = {
    "relu, dense":
    relu(),
    "relu, sparse":
    relu(bias=-4.0),
    "relu, bias not subtracted":
    relu(subtract_decoder_bias=False),
    "gated, dense":
    case("gated", {"l1_coefficient": 0.7}, {"l1": 0.7}, sparsity=0.7,
         gated_auxiliary_trains_decoder=True),
    "gated, sparse":
    case("gated", {"l1_coefficient": 0.7}, {"l1": 0.7}, sparsity=0.7,
         gated_auxiliary_trains_decoder=True, bias=-4.0),
    "topk":
    case("topk", {
        "k": 9,
        "rescale_acts_by_decoder_norm": False
    }, k=9),
    "batch-topk":
    case("batch-topk", {
        "k": 9,
        "rescale_acts_by_decoder_norm": False
    }, k=9),
    "matryoshka":
    case("matryoshka", {
        "k": 9,
        "rescale_acts_by_decoder_norm": False,
        "matryoshka_widths": [30, 100, 300]
    }, k=9, prefixes=[30, 100, 300]),
    "jump-relu, l0":
    jump_relu("step", 0.05),
    "jump-relu, l0, sparse":
    jump_relu("step", 0.05, bias=-4.0),
    "jump-relu, l0, through the input":
    jump_relu("step", 0.5, through_input=True),
    "jump-relu, tanh, through the input":
    jump_relu("tanh", 2.0, through_input=True, dead=True),
    "jump-relu, tanh":
    jump_relu("tanh", 2.0, dead=True),
    "jump-relu, tanh, sparse":
    jump_relu("tanh", 0.5, dead=True, bias=-4.0),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if not SAELENS.is_file():
        pytest.skip(f"{SAELENS}: not there; set VYX_SAELENS_PYTHON")
    folder = tmp_path_factory.mktemp("objective")
    (folder / "cases.json").write_text(json.dumps(CASES))
    subprocess.run([SAELENS, Path(__file__).with_name("saelens_objective.py"), folder], check=True)
    return folder


def relative(found, expected):
    return np.linalg.norm(found.astype(float) - expected) / max(
        np.linalg.norm(expected.astype(float)), 1e-30)


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_are_saelens_own(name, folder, run):
    result = run("parity-sae-objective", folder / name)
    assert result.returncode == 0, result.stderr.decode()
    found, expected = json.loads(result.stdout), json.loads(
        (folder / name / "saelens.json").read_text())
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert found["l0"] == pytest.approx(expected["l0"], rel=1e-6)
    losses = expected["losses"]
    assert found["reconstruction"] == pytest.approx(losses["mse_loss"], rel=1e-5)
    for theirs, ours in [("l1_loss", "sparsity"), ("l0_loss", "sparsity"),
                         ("pre_act_loss", "auxiliary"),
                         ("auxiliary_reconstruction_loss", "auxiliary")]:
        if theirs in losses:
            assert found[ours] == pytest.approx(losses[theirs], rel=1e-5), theirs
    gradients = sorted((folder / name).glob("saelens_grad_*.f32"))
    assert len(gradients) >= 4
    for path in gradients:
        ours = np.fromfile(path.with_name(path.name.removeprefix("saelens_")), "<f4")
        theirs = np.fromfile(path, "<f4")
        assert np.linalg.norm(theirs) > 0, path.name
        assert relative(ours, theirs) < 1e-5, path.name


def gao_loss(w, x, dead, k, auxiliary, auxiliary_k):
    """As in OpenAI's sparse_autoencoder: normalised mean squared errors, and a loss for the latents
    that are dead."""
    def top(z, count):
        values, indices = z.topk(count, dim=-1)
        return torch.zeros_like(z).scatter(-1, indices, values.relu())

    def normalized_mse(reconstruction, target):
        mean = target.mean(dim=0, keepdim=True)
        return ((reconstruction - target)**2).mean() / ((mean - target)**2).mean()

    z = (x - w["b_dec"]) @ w["W_enc"].T + w["b_enc"]
    reconstruction = top(z, k) @ w["W_dec"] + w["b_dec"]
    error = (x - reconstruction).detach()
    spare = top(z.masked_fill(~dead, -torch.inf), auxiliary_k) @ w["W_dec"]
    term = normalized_mse(spare, error).nan_to_num(0)
    return normalized_mse(reconstruction, x) + auxiliary * term, float(auxiliary * term.detach())


@pytest.mark.parametrize("auxiliary", [1 / 32, 3.0])
def test_auxk_is_openais(auxiliary, tmp_path, run):
    """Loss and gradients are the variance of x times those of Gao et al."""
    d, latents, rows = 24, 90, 150
    random = np.random.default_rng(3)
    w = {
        "W_enc": random.normal(size=(latents, d)) * 0.4,
        "b_enc": random.normal(size=latents) * 0.1,
        "W_dec": random.normal(size=(latents, d)) * 0.4,
        "b_dec": random.normal(size=d) * 0.2
    }
    arrays = w | {
        "x": random.normal(size=(rows, d)) * 5 + 1,
        "dead": (np.arange(latents) % 4 == 1).astype(float)
    }
    arrays = {name: array.astype("<f4") for name, array in arrays.items()}
    for name, array in arrays.items():
        array.tofile(tmp_path / f"{name}.f32")
    (tmp_path / "case.json").write_text(
        json.dumps({
            "architecture": "topk",
            "d": d,
            "latents": latents,
            "rows": rows,
            "k": 5,
            "auxiliary": auxiliary,
            "auxiliary_k": 8
        }))
    result = run("parity-sae-objective", tmp_path)
    assert result.returncode == 0, result.stderr.decode()
    found = json.loads(result.stdout)

    x, dead = torch.tensor(arrays["x"]).double(), torch.tensor(arrays["dead"]).bool()
    weights = {name: torch.tensor(arrays[name]).double().requires_grad_() for name in w}
    loss, term = gao_loss(weights, x, dead, 5, auxiliary, 8)
    loss.backward()
    variance = float(((x - x.mean(0))**2).sum(-1).mean())
    assert term > 0.1 * auxiliary
    assert found["auxiliary"] == pytest.approx(variance * term, rel=1e-5)
    assert found["loss"] == pytest.approx(variance * float(loss.detach()), rel=1e-5)
    for name, weight in weights.items():
        ours = np.fromfile(tmp_path / f"grad_{name}.f32", "<f4").reshape(w[name].shape)
        assert relative(ours, variance * weight.grad.numpy()) < 1e-5, name
