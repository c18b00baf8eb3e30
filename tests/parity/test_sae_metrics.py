"""Metrics of autoencoders beside SciPy's assignment and SAELens's evaluation (in its own virtual
environment)."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

ROOT = Path(__file__).resolve().parents[2]
LATENTS, FEATURES, WIDTH, TOKENS = 96, 160, 48, 500

SAELENS = """
import json, sys
import numpy as np, torch
from sae_lens.evals import ExplainedVarianceCalculator
from sae_lens.synthetic.evals import (compute_classification_metrics, feature_uniqueness,
                                      mean_correlation_coefficient)
data = {name: torch.from_numpy(array) for name, array in np.load(sys.argv[1]).items()}
variance = ExplainedVarianceCalculator()
for part in torch.arange(len(data["x"])).split(200):
    variance.add_batch(data["y"][part], data["x"][part])
detection = compute_classification_metrics(data["f"], data["a"], data["decoder"], data["features"])
print(json.dumps({
    "mean_matched_cosine": mean_correlation_coefficient(data["decoder"], data["features"]),
    "uniqueness": feature_uniqueness(data["decoder"], data["features"]),
    "precision": detection.precision, "recall": detection.recall, "f1": detection.f1_score,
    "explained_variance": variance.compute()}))
"""


@pytest.fixture(scope="module")
def ours(run, tmp_path_factory):
    """ours("metrics", 5, array, …): what parity-sae-metrics prints; arrays go by file."""
    folder = tmp_path_factory.mktemp("arrays")

    def call(*args):
        words = []
        for i, arg in enumerate(args):
            if isinstance(arg, np.ndarray):
                arg.astype(np.float32).tofile(folder / f"{i}.f32")
                arg = folder / f"{i}.f32"
            words.append(arg)
        result = run("parity-sae-metrics", *words)
        assert result.returncode == 0, result.stderr.decode()
        return json.loads(result.stdout)

    return call


@pytest.mark.parametrize("rows,columns", [(1, 1), (40, 40), (60, 200), (200, 60), (700, 700)])
@pytest.mark.parametrize("kind", ["normal", "ties", "cosines"])
def test_the_assignment_costs_what_scipys_costs(ours, rows, columns, kind):
    random = np.random.default_rng(rows * columns)
    cost = random.standard_normal((rows, columns)).astype(np.float32)
    if kind == "ties":
        cost = np.round(cost)
    elif kind == "cosines":  # as latents against features are: nearly alike everywhere
        a, b = random.standard_normal((rows, 64)), random.standard_normal((columns, 64))
        cost = -np.abs((a / np.linalg.norm(a, axis=1, keepdims=True))
                       @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T)
        cost = cost.astype(np.float32)
    column_of = np.array(ours("assign", rows, cost))
    taken = np.flatnonzero(column_of >= 0)
    assert len(taken) == min(rows, columns) == len(set(column_of[taken]))
    best = cost[linear_sum_assignment(cost)].astype(np.float64).sum()
    assert cost[taken, column_of[taken]].astype(np.float64).sum() == pytest.approx(
        best, abs=1e-9, rel=1e-12)


@pytest.fixture(scope="module")
def data():
    """A dictionary that found some features, some twice and some not, with latents that fire with
    theirs most of the time."""
    random = np.random.default_rng(5)
    features = random.standard_normal((FEATURES, WIDTH))
    found = random.integers(0, FEATURES, LATENTS)
    decoder = features[found] + random.standard_normal(
        (LATENTS, WIDTH)) * random.uniform(0, 1.5, (LATENTS, 1))
    a = np.maximum(random.standard_normal((TOKENS, FEATURES)) - 1, 0)
    f = np.where(
        random.random((TOKENS, LATENTS)) < 0.8, a[:, found],
        random.random((TOKENS, LATENTS)) < 0.05)
    x = a @ features + 3
    y = 0.95 * x + random.standard_normal(x.shape)
    return {
        name: array.astype(np.float32)
        for name, array in dict(features=features, decoder=decoder, a=a, f=f, x=x, y=y).items()
    }


def test_figures_are_saelenss(ours, data, tmp_path):
    python = Path(os.environ.get("VYX_SAELENS_PYTHON", ROOT / ".deps/saelens/bin/python"))
    if not python.is_file():
        pytest.skip(f"{python}: not there; SAELens is not installed")
    np.savez(tmp_path / "data.npz", **data)
    peer = subprocess.run([python, "-c", SAELENS, tmp_path / "data.npz"], capture_output=True,
                          text=True, timeout=300)
    assert peer.returncode == 0, peer.stderr
    expected = json.loads(peer.stdout.splitlines()[-1])
    matching = ours("match", LATENTS, data["decoder"], FEATURES, data["features"], TOKENS,
                    data["f"], data["a"])
    metrics = ours("metrics", TOKENS, data["x"], data["y"], data["f"])
    for name in ("mean_matched_cosine", "uniqueness", "precision", "recall", "f1"):
        assert matching[name] == pytest.approx(expected[name], rel=1e-5), name
    assert metrics["explained_variance"] == pytest.approx(expected["explained_variance"], rel=1e-5)


def test_figures_are_numpys(ours, data):
    x, y, f = (data[name].astype(np.float64) for name in ("x", "y", "f"))
    metrics = ours("metrics", TOKENS, data["x"], data["y"], data["f"])
    norm = np.linalg.norm
    error = ((x - y)**2).sum(1)
    assert metrics["mse"] == pytest.approx(error.mean(), rel=1e-12)
    assert metrics["explained_variance"] == pytest.approx(1 - error.mean() / x.var(0).sum(),
                                                          rel=1e-10)
    assert metrics["normalized_mse"] == pytest.approx((error / (x**2).sum(1)).mean(), rel=1e-12)
    assert metrics["cosine"] == pytest.approx(
        ((x * y).sum(1) / norm(x, axis=1) / norm(y, axis=1)).mean(), rel=1e-12)
    assert metrics["l2_ratio"] == pytest.approx((norm(y, axis=1) / norm(x, axis=1)).mean(),
                                                rel=1e-12)
    assert metrics["relative_reconstruction_bias"] == pytest.approx(
        (y**2).sum(1).mean() / (x * y).sum(1).mean(), rel=1e-12)
    assert metrics["l0"] == pytest.approx((f > 0).sum(1).mean())
    assert metrics["dead_fraction"] == pytest.approx((f.max(0) == 0).mean())
    density, _ = np.histogram(np.log10((f > 0).mean(0) + 1e-10), bins=40, range=(-10, 0))
    assert metrics["density_histogram"]["latents"] == density.tolist()
