"""The comparison's intervals and p-values against scipy, and formulas written anew in numpy."""

import json

import numpy as np
import pytest
from scipy import stats


@pytest.fixture(scope="module")
def answer(run):
    """answer("flip", …): what parity-statistics prints."""
    def call(*args):
        result = run("parity-statistics", *args)
        assert result.returncode == 0, result.stderr.decode()
        return json.loads(result.stdout)

    return call


def items_of(rng, sizes):
    """Values whose clusters share a part, and their clusters."""
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    values = 0.4 + rng.standard_normal(len(sizes))[clusters] * 0.5 + rng.standard_normal(
        len(clusters))
    return values, clusters


def as_text(values, clusters):
    return json.dumps([values.tolist(), clusters.tolist()])


def cr2(values, clusters):
    """Bell and McCaffrey's interval as regressions have it: the model is a column of ones,
    residuals are adjusted by (I − H)^(−1/2), the working covariance is the identity."""
    ones = np.ones((len(values), 1))
    bread = np.linalg.inv(ones.T @ ones)
    residual_maker = np.eye(len(values)) - ones @ bread @ ones.T
    residuals = residual_maker @ values
    variance, rows = 0, []
    for cluster in np.unique(clusters):
        members = np.flatnonzero(clusters == cluster)
        size, vectors = np.linalg.eigh(residual_maker[np.ix_(members, members)])
        adjust = vectors @ np.diag(size**-0.5) @ vectors.T
        weight = (bread @ ones[members].T @ adjust)[0]
        variance += (weight @ residuals[members])**2
        rows.append(weight @ residual_maker[members])
    gram = np.array(rows) @ np.array(rows).T
    degrees = np.trace(gram)**2 / np.trace(gram @ gram)
    half = stats.t.ppf(0.975, degrees) * variance**0.5
    return values.mean() - half, values.mean() + half


def bootstrap_t(values, clusters, resamples, rng):
    sums = np.bincount(clusters, values)
    sizes = np.bincount(clusters).astype(float)

    def ratio(s, n):
        mean = s.sum(-1) / n.sum(-1)
        squares = ((s - mean[..., None] * n)**2).sum(-1)
        return mean, np.sqrt(s.shape[-1] / (s.shape[-1] - 1) * squares) / n.sum(-1)

    mean, error = ratio(sums, sizes)
    draws = rng.integers(0, len(sums), (resamples, len(sums)))
    means, errors = ratio(sums[draws], sizes[draws])
    low, high = np.quantile((means - mean) / errors, [0.025, 0.975])
    return mean - high * error, mean - low * error


@pytest.mark.parametrize("degrees", [1, 2.7, 6.02268, 12, 199])
@pytest.mark.parametrize("p", [1e-4, 0.025, 0.6, 0.975])
def test_quantiles_of_student_t(answer, p, degrees):
    assert answer("student-t", p, degrees) == pytest.approx(stats.t.ppf(p, degrees), rel=1e-9)


@pytest.mark.parametrize("sizes", [[1, 1], [2, 3, 1, 2], [1, 5, 2, 2, 1, 3, 1]])
def test_few_clusters_get_cr2(answer, sizes):
    values, clusters = items_of(np.random.default_rng(1), sizes)
    assert answer("interval", as_text(values,
                                      clusters)) == pytest.approx(cr2(values, clusters), rel=1e-8)


@pytest.mark.parametrize("sizes", [[1] * 14, [2, 3, 1, 2, 1, 2, 2, 1, 4, 1, 1, 2]])
def test_many_clusters_get_the_studentised_bootstrap(answer, sizes):
    rng = np.random.default_rng(2)
    values, clusters = items_of(rng, sizes)
    low, high = bootstrap_t(values, clusters, 200_000, rng)
    # 9,999 resamples: the quantiles' own error is some hundredths of the width.
    assert answer("interval", as_text(values, clusters)) == pytest.approx((low, high),
                                                                          abs=0.05 * (high - low))


@pytest.mark.parametrize("sizes", [[1] * 10, [2, 3, 1, 2, 1, 2, 2, 1, 4]])
def test_sign_flips_are_a_permutation_test(answer, sizes):
    values, clusters = items_of(np.random.default_rng(3), sizes)
    sums = np.bincount(clusters, values)
    expected = stats.permutation_test((sums, ), lambda x, axis: x.sum(axis),
                                      permutation_type="samples", n_resamples=np.inf)
    assert answer("flip", as_text(values, clusters))["p"] == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("right", [0, 1, 9, 14])
def test_shares_have_wilsons_interval(answer, right):
    expected = stats.binomtest(right, 14).proportion_ci(method="wilson")
    found = answer("share", json.dumps([1.0] * right + [0.0] * (14 - right)))
    assert found == pytest.approx([expected.low, expected.high], abs=1e-9)
