"""Control vectors against scikit-learn, the Python package gguf, and repeng on the real model."""

import json
import warnings

import gguf
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

METHODS = ["pca-center", "pca-diff", "mean"]
PAIRS = 24
BLOCKS = range(1, 30)
STEERED = range(8, 22)


@pytest.fixture(scope="module")
def steering(run):
    """steering("show", path, …): what parity-steering prints."""
    def call(*args):
        result = run("parity-steering", *args)
        assert result.returncode == 0, result.stderr.decode()
        return json.loads(result.stdout)

    return call


def block(k):
    return f"model.layers.{k}:output"


# --- Directions -----------------------------------------------------------------------------------


def expected_direction(p, n, method):
    """The direction and its eigenvalue of DᵀD, by scikit-learn."""
    d = p - n
    if method == "mean":
        return d.mean(0), None
    # pca-center is repeng's: both sides about their own centre, which makes the rows ±D/2.
    rows = d if method == "pca-diff" else np.concatenate([d / 2, -d / 2])
    pca = PCA(n_components=1, svd_solver="full").fit(rows)
    eigenvalue = pca.explained_variance_[0] * (len(rows) - 1) * (1 if method == "pca-diff" else 2)
    v = pca.components_[0]
    vote = np.sign(d @ v).sum()
    return (-v if vote < 0 else v), eigenvalue


def random_activations(rng, pairs, width):
    return rng.standard_normal((pairs, width)) + 0.3, rng.standard_normal((pairs, width))


def structured_activations(rng, pairs, width):
    """As in a model: a large common part, a concept of varying strength, a little noise."""
    common = 40 * rng.standard_normal(width) + 5 * rng.standard_normal((pairs, width))
    concept = rng.standard_normal(width) * rng.uniform(0.2, 2, (pairs, 1))
    noise = 0.2 * rng.standard_normal((2, pairs, width))
    return common + concept + noise[0], common - concept + noise[1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(24, 576), (128, 64), (7, 5)], ids=str)
@pytest.mark.parametrize("activations", [random_activations, structured_activations])
def test_direction(steering, tmp_path, activations, shape, method):
    p, n = activations(np.random.default_rng(3), *shape)
    p.tofile(tmp_path / "p.f64")
    n.tofile(tmp_path / "n.f64")
    found = steering("direction", method, shape[0], tmp_path / "p.f64", tmp_path / "n.f64")
    v, eigenvalue = expected_direction(p, n, method)
    np.testing.assert_allclose(found["vector"], v, atol=1e-7 * max(1, np.abs(v).max()))
    if eigenvalue is not None:
        np.testing.assert_allclose(found["eigenvalues"][0], eigenvalue, rtol=1e-10)


def expected_logistic(p, n):
    """Unit weights of scikit-learn's ridge regression, the ridge chosen on every fifth pair."""
    pairs, width = p.shape
    scale = np.sqrt(width) / np.sort(np.linalg.norm(np.concatenate([p, n]), axis=1))[pairs - 1]
    x = np.concatenate([p, n]) * scale
    y = np.repeat([1, 0], pairs)

    def fit(rows, ridge):
        model = LogisticRegression(C=1 / ridge, solver="newton-cg", tol=1e-12, max_iter=10_000)
        return model.fit(x[rows], y[rows])

    held_out = np.tile(np.arange(pairs) % 5 == 4, 2)
    ridge = 1 if pairs < 10 else min(
        [1e-2, 1e-1, 1, 1e1, 1e2, 1e3],
        key=lambda ridge: log_loss(y[held_out],
                                   fit(~held_out, ridge).predict_proba(x[held_out])[:, 1]))
    weights = fit(np.full(2 * pairs, True), ridge).coef_[0]
    return weights / np.linalg.norm(weights)


@pytest.mark.parametrize("shape", [(24, 96), (128, 64), (7, 5)], ids=str)
@pytest.mark.parametrize("activations", [random_activations, structured_activations])
def test_logistic(steering, tmp_path, activations, shape):
    p, n = activations(np.random.default_rng(3), *shape)
    p.tofile(tmp_path / "p.f64")
    n.tofile(tmp_path / "n.f64")
    found = steering("direction", "logistic", shape[0], tmp_path / "p.f64", tmp_path / "n.f64")
    np.testing.assert_allclose(found["vector"], expected_logistic(p, n), atol=1e-5)


# --- Files ----------------------------------------------------------------------------------------


def repeng_vector(blocks, width=16, seed=5):
    import repeng

    rng = np.random.default_rng(seed)
    directions = {k: rng.standard_normal(width).astype(np.float32) for k in blocks}
    return repeng.ControlVector(model_type="llama", directions=directions)


def test_a_file_of_repeng_is_read(steering, tmp_path):
    vector = repeng_vector([12, 3, 7])
    vector.export_gguf(tmp_path / "v.gguf")
    found = steering("show", tmp_path / "v.gguf")
    assert found["model_hint"] == "llama" and found["warning"] == ""
    assert found["sites"].keys() == {block(k) for k in vector.directions}
    for k, direction in vector.directions.items():
        np.testing.assert_array_equal(np.float32(found["sites"][block(k)]["vector"]), direction)


def test_our_file_has_the_layout_of_llama_cpp(steering, tmp_path):
    vector = repeng_vector([1, 2, 29])
    vector.export_gguf(tmp_path / "v.gguf")
    steering("rewrite", tmp_path / "v.gguf", tmp_path / "ours.gguf")
    reader = gguf.GGUFReader(tmp_path / "ours.gguf")
    assert reader.get_field("general.architecture").contents() == "controlvector"
    hint, count = reader.get_field("controlvector.model_hint"), reader.get_field(
        "controlvector.layer_count")
    assert hint.types == [gguf.GGUFValueType.STRING] and hint.contents() == "llama"
    assert count.types == [gguf.GGUFValueType.UINT32] and count.contents() == 3
    assert [tensor.name
            for tensor in reader.tensors] == ["direction.1", "direction.2", "direction.29"]
    for tensor in reader.tensors:
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32 and len(tensor.shape) == 1


def test_our_file_is_read_by_repeng(steering, tmp_path):
    import repeng

    vector = repeng_vector([1, 2, 29])
    vector.export_gguf(tmp_path / "v.gguf")
    steering("rewrite", tmp_path / "v.gguf", tmp_path / "ours.gguf")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert repeng.ControlVector.import_gguf(tmp_path / "ours.gguf") == vector


def test_a_file_of_cvector_generator_warns(steering, tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "v.gguf", "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_int32("controlvector.layer_count", 1)
    writer.add_tensor("direction.4", np.ones(8, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = steering("show", tmp_path / "v.gguf")
    assert list(found["sites"]) == [block(4)]
    assert "one block late" in found["warning"]


# --- The real model -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hf(gguf_path):
    """The same file as transformers reads it: model and tokenizer. Its own way to load GGUF wants
    accelerate; the conversion is the same."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    torch.set_num_threads(2)
    model = LlamaForCausalLM(LlamaConfig(**load_gguf_checkpoint(gguf_path)["config"])).eval()
    weights = load_gguf_checkpoint(gguf_path, return_tensors=True, model_to_load=model)["tensors"]
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
    return model, AutoTokenizer.from_pretrained(gguf_path.parent, gguf_file=gguf_path.name)


@pytest.fixture(scope="module")
def pairs():
    beginnings = [
        "I", "The", "My day", "We are", "Today", "It seems", "When I", "Nobody", "Look at",
        "Why is", "They said", "The weather", "My mother", "I think that", "There was",
        "You should", "At work", "Tomorrow", "Our house", "She had", "After lunch", "The news",
        "If only", "I opened the door and"
    ]
    text = ("<|im_start|>user\nPretend you are {} person who talks about the world.<|im_end|>\n"
            "<|im_start|>assistant\n{}")
    assert len(beginnings) == PAIRS
    return [{
        "positive": text.format("an extremely happy", b),
        "negative": text.format("an extremely sad", b)
    } for b in beginnings]


@pytest.fixture(scope="module")
def pairs_path(pairs, tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return path


@pytest.fixture(scope="module")
def ours(steering, model_path, pairs_path, tmp_path_factory):
    """Our pca-center vector: its sites, and its file."""
    path = tmp_path_factory.mktemp("vector") / "happy.gguf"
    return steering("extract", model_path, pairs_path, "pca-center", path)["sites"], path


def test_activations_are_those_of_transformers(steering, model_path, hf, pairs, pairs_path,
                                               tmp_path):
    import torch

    model, tokenizer = hf
    steering("activations", model_path, pairs_path, "model.layers.{0..28}", tmp_path / "x.f32")
    found = np.fromfile(tmp_path / "x.f32", dtype=np.float32).reshape(29, 2 * PAIRS, -1)
    texts = [pair[side] for pair in pairs for side in ("positive", "negative")]
    with torch.no_grad():
        for row, text in list(enumerate(texts))[::5]:  # of both sides
            states = model(**tokenizer(text, return_tensors="pt"),
                           output_hidden_states=True).hidden_states
            expected = torch.stack([state[0, -1] for state in states[1:30]]).numpy()  # [29, d]
            error = np.linalg.norm(found[:, row] - expected, axis=1) / np.linalg.norm(
                expected, axis=1)
            assert error.max() < 1e-3, f"{text!r}: {error.max()} at block {error.argmax()}"


def test_the_vector_is_that_of_repeng_where_the_eigengap_is_large(ours, hf, pairs):
    import repeng

    model, tokenizer = hf
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    dataset = [repeng.DatasetEntry(**pair) for pair in pairs]
    theirs = repeng.ControlVector.train(model, tokenizer, dataset, method="pca_center")
    sites, _ = ours
    assert sites.keys() == {block(k) for k in BLOCKS} and set(theirs.directions) == set(BLOCKS)
    # With a small gap repeng's randomised solver gives another direction each time. Of the last
    # block repeng reads what comes behind the final norm, as transformers gives it, but adds before
    # the norm; we read where we add.
    clear = [k for k in BLOCKS[:-1] if sites[block(k)]["eigengap"] > 0.5]
    assert len(clear) >= 15
    for k in clear:
        cosine = float(np.dot(sites[block(k)]["vector"], theirs.directions[k]))
        assert cosine >= 0.99, f"block {k}: {cosine}"


@pytest.mark.parametrize("coefficient", [0.0, 4.0, -8.0])
def test_steered_logits_are_those_of_repeng(steering, ours, hf, model_path, tmp_path, coefficient):
    import repeng
    import torch

    model, tokenizer = hf
    whole = repeng.ControlVector.import_gguf(ours[1])
    vector = repeng.ControlVector("llama", {k: np.array(whole.directions[k]) for k in STEERED})
    vector.export_gguf(tmp_path / "v.gguf")
    text = "<|im_start|>user\nHow was your day?<|im_end|>\n<|im_start|>assistant\nWell, I"
    tokens = steering("logits", model_path, tmp_path / "v.gguf", coefficient, text,
                      tmp_path / "x.f32")["tokens"]
    found = np.fromfile(tmp_path / "x.f32", dtype=np.float32).reshape(len(tokens), -1)
    controlled = repeng.ControlModel(model, STEERED)
    try:
        controlled.set_control(vector, coefficient)
        with torch.no_grad():
            expected = controlled(torch.tensor([tokens])).logits[0].numpy()
    finally:
        controlled.unwrap()
    assert tokens == tokenizer(text).input_ids
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=0)
