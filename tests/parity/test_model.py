"""The imported model against Hugging Face transformers on SmolLM2 itself, in float32: from stock
Python and from C++ (parity_model.cpp).

Loading a GGUF takes transformers half a minute: what it says is kept in VYX_CACHE when that is set.
transformers reads GGUF files by itself only where accelerate is installed; its conversion is called
directly here, so that the reference needs torch and gguf alone."""

import json
import os
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

torch.set_num_threads(2)
SITES = [
    "model.layers.*", "model.layers.11.self_attn.{q_proj,o_proj}", "model.layers.11.mlp",
    "model.norm"
]


@pytest.fixture(scope="session")
def prompts():
    """Token rows of several lengths, the last of more than 200 tokens."""
    generator = torch.Generator().manual_seed(7)
    rows = [[
        1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407
    ], [504], [28, 284, 260]]
    rows += [torch.randint(17, 49152, (n, ), generator=generator).tolist() for n in (40, 230)]
    return rows


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    folder = Path(os.environ["VYX_CACHE"]) if os.environ.get(
        "VYX_CACHE") else tmp_path_factory.mktemp("model")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def reference(gguf_path, prompts, cache_dir):
    """What transformers makes of each prompt: logits [seq, vocab], hidden states, 64 greedy tokens
    of the first."""
    file = cache_dir / "transformers-reference.pt"
    if file.is_file():
        return torch.load(file)
    model = LlamaForCausalLM(LlamaConfig(**load_gguf_checkpoint(gguf_path)["config"])).eval()
    model.load_state_dict(
        load_gguf_checkpoint(gguf_path, return_tensors=True, model_to_load=model)["tensors"],
        strict=False)
    model.tie_weights()
    result = {"logits": [], "hidden_states": []}
    with torch.no_grad():
        for row in prompts:
            out = model(torch.tensor([row]), output_hidden_states=True)
            result["logits"].append(out.logits[0])
            result["hidden_states"].append(torch.stack(out.hidden_states)[:, 0])
        first = torch.tensor([prompts[0]])
        out = model.generate(first, max_new_tokens=64, min_new_tokens=64, do_sample=False,
                             attention_mask=torch.ones_like(first))
        result["greedy"] = out[0, first.shape[1]:].tolist()
    torch.save(result, file.with_suffix(".part"))
    file.with_suffix(".part").rename(file)
    return result


@pytest.fixture(scope="session")
def script(model_path):
    return torch.jit.load(model_path)


@pytest.fixture(scope="session")
def ask(run, model_path, tmp_path_factory):
    """ask(rows, …): parity-model's answer."""
    folder = tmp_path_factory.mktemp("requests")

    def call(rows, padding="right", sites=(), greedy=0):
        request = {"rows": rows, "padding": padding, "sites": list(sites), "greedy": greedy}
        (folder / "request.json").write_text(json.dumps(request))
        result = run("parity-model", "run", model_path, folder / "request.json",
                     folder / "answer.pt")
        assert result.returncode == 0, result.stderr.decode()
        return torch.load(folder / "answer.pt", weights_only=False)  # our own, with a typed dict

    return call


def padded(rows, side):
    longest = max(map(len, rows))
    pads = [[2] * (longest - len(row)) for row in rows]
    ids = [pad + row if side == "left" else row + pad for row, pad in zip(rows, pads)]
    mask = [[0] * len(pad) + [1] * len(row) if side == "left" else [1] * len(row) + [0] * len(pad)
            for row, pad in zip(rows, pads)]
    return torch.tensor(ids), torch.tensor(mask)


def difference(a, b):
    return (a - b).abs().max().item()


def test_logits_from_stock_python(script, reference, prompts):
    with torch.no_grad():
        for row, expected in zip(prompts, reference["logits"]):
            assert difference(script(torch.tensor([row]))[0], expected) <= 1e-4


def test_logits_from_cpp(ask, reference, prompts):
    for row, expected in zip(prompts, reference["logits"]):
        assert difference(ask([row])["logits"][0], expected) <= 1e-4


def test_greedy_tokens_are_equal(ask, reference, prompts):
    assert ask([prompts[0]], greedy=64)["greedy"].tolist() == reference["greedy"]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_give_what_they_give_alone(script, reference, prompts, side):
    ids, mask = padded(prompts, side)
    with torch.no_grad(), torch.jit.optimized_execution(
            False):  # which would specialise for each shape, seconds each
        logits = script(ids, attention_mask=mask)
        assert logits.isfinite().all()
        for row, row_mask, tokens in zip(logits, mask.bool(), prompts):
            alone = script(torch.tensor([tokens]))[0]
            assert difference(row[row_mask], alone) <= 1e-5 * alone.abs().max().item()


def test_padded_batches_from_cpp(ask, reference, prompts):
    rows = prompts[:4]
    for side in ("left", "right"):
        logits = ask(rows, padding=side)["logits"]
        for row, row_mask, expected in zip(logits,
                                           padded(rows, side)[1].bool(), reference["logits"]):
            assert difference(row[row_mask], expected) <= 1e-4


def test_sites_are_hugging_faces_hidden_states(ask, reference, prompts):
    answer = ask([prompts[3]], sites=SITES)
    states = reference["hidden_states"][3]
    blocks = len(states) - 1
    for k in range(blocks - 1):  # the last block's state is kept after the final norm only
        found = answer[f"model.layers.{k}:output"][0]
        assert found.shape == states[k + 1].shape
        assert difference(found, states[k + 1]) <= 1e-5 * states[k + 1].abs().max().item()
    found = answer["model.norm:output"][0]
    assert difference(found, states[blocks]) <= 1e-5 * states[blocks].abs().max().item()
    assert answer["model.layers.11.self_attn.q_proj:output"].shape == (1, 40, 576)


def test_the_cache_works_from_stock_python(script, reference, prompts):
    keys = [torch.empty(1, 3, 32, 64) for _ in range(30)]
    values = [torch.empty(1, 3, 32, 64) for _ in range(30)]
    row = torch.tensor([prompts[0]])
    with torch.no_grad(), torch.jit.optimized_execution(False):
        parts = [
            script.hidden(row[:, a:b], None, keys, values, a)
            for a, b in ((0, 9), (9, 16), (16, 17))
        ]
        logits = script.logits(torch.cat(parts, 1))[0]
    assert difference(logits, reference["logits"][0]) <= 1e-4


def test_a_tied_embedding_is_stored_once(model_path, gguf_path):
    parameters = 134_515_008
    assert parameters * 4 < model_path.stat().st_size < parameters * 4 + 8e6
