"""vyx::core's hooks against Python's register_forward_hook and register_forward_pre_hook: the same
values at the same calls, edits with the same result, and baked modules that stock Python runs, all
bit for bit."""

import math
import os
from typing import Dict, Optional, Tuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

D = 32


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, 4, d // 4).permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(d // 4), dim=-1)
        return self.out((weights @ v).transpose(1, 2).reshape(b, t, d)), weights


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(D), Attention(), nn.LayerNorm(D)
        self.mlp = nn.Sequential(nn.Linear(D, 2 * D), nn.GELU(), nn.Linear(2 * D, D))

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        mixed, weights = self.attention(self.norm1(x))
        x = x + mixed
        return x + self.mlp(self.norm2(x)), weights


class GPT(nn.Module):
    """Blocks that return (hidden, weights); tied embeddings."""
    def __init__(self):
        super().__init__()
        self.embed, self.blocks, self.norm = nn.Embedding(50, D), nn.ModuleList(
            Block() for _ in range(3)), nn.LayerNorm(D)
        self.head = nn.Linear(D, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x, weights = block(x)
        return self.head(self.norm(x))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.cell, self.out = nn.LSTM(D, D,
                                                 batch_first=True), nn.GRUCell(D,
                                                                               D), nn.Linear(D, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, (h, c) = self.lstm(x)
        state = h[0]
        for i in range(y.size(1)):
            state = self.cell(y[:, i], state)
        return self.out(state)


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
                                      nn.MaxPool2d(2))
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.features(x).mean(dim=(2, 3)))


class Wrapper(nn.Module):
    def __init__(self, shared):
        super().__init__()
        self.shared, self.own = shared, nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        return self.own(self.shared(x))


class Shared(nn.Module):
    """One object with three paths. Scripting and tracing make three objects of it."""
    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(D, D)
        self.a, self.b = Wrapper(self.shared), Wrapper(self.shared)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.b(x) + self.shared(x)


class Twice(nn.Module):
    """A submodule called twice with one argument, and one whose result nobody uses."""
    def __init__(self):
        super().__init__()
        self.linear, self.unused = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        self.unused(x)
        return self.linear(x) + self.linear(x)


class DictInner(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Dict[str, Tensor]:
        y = self.linear(x)
        return {"hidden": y, "twice": y * 2}


class DictOut(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.out = DictInner(), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inner(x)["hidden"])


class OptionalOut(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(D, D)

    def forward(self, x: Tensor, mask: Optional[Tensor] = None) -> Optional[Tensor]:
        y = self.linear(x)
        return y if mask is None else y * mask


@torch.jit.interface
class Layer(nn.Module):
    def forward(self, input: Tensor) -> Tensor:
        pass


class Interface(nn.Module):
    layer: Layer

    def __init__(self):
        super().__init__()
        self.layer, self.tail = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_scripting():
            return self.tail(self.layer.forward(x))
        return self.tail(self.layer(x))  # in Python, forward() itself passes hooks by


class Fork(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        future = torch.jit.fork(self.a, x)
        y = self.b(x)
        return torch.jit.wait(future) + y


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor, n: int) -> Tensor:
        for i in range(n):
            if i % 2 == 0:
                x = torch.tanh(self.a(x))
            else:
                x = torch.tanh(self.b(x))
        if bool(x.sum() > 1e6):
            return x
        return self.a(x)


IDS, X, XS, IMAGE = "ids", "x", "xs", "image"
# name -> class, arguments, ways of exporting. The interpreter of fork orders the calls as it likes.
CASES = {
    "gpt": (GPT, (IDS, ), "st"),
    "recurrent": (Recurrent, (XS, ), "st"),
    "convolutional": (Convolutional, (IMAGE, ), "st"),
    "shared": (Shared, (X, ), "st"),
    "twice": (Twice, (X, ), "st"),
    "dict": (DictOut, (X, ), "s"),
    "optional": (OptionalOut, (X, ), "s"),
    "interface": (Interface, (X, ), "s"),
    "fork": (Fork, (X, ), "s"),
    "branches": (Branches, (X, 3), "s"),
}
EXPORTS = [(name, way) for name, case in CASES.items() for way in case[2]]
# Tracing loses what nobody uses, reorders what it passes, and credits a shared module's calls to
# one path.
TRACED_EXACTLY = {"gpt", "convolutional"}
# In Python a submodule has one path; this is the one of those that the exported module knows by
# several.
PYTHON_PATH = {"a.shared": "shared", "b.shared": "shared"}


def flat(value):
    if isinstance(value, Tensor):
        return [value.detach().clone()]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in flat(v)] if isinstance(value, (tuple, list)) else []


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """export(name, way): (eager module, arguments, path of the archive)."""
    folder = tmp_path_factory.mktemp("hooks")
    made = {}

    def make(name, way):
        if (name, way) not in made:
            torch.manual_seed(7)
            kind, arguments, _ = CASES[name]
            module = kind().eval()
            values = {
                IDS: torch.randint(0, 50, (2, 6)),
                X: torch.randn(3, D),
                XS: torch.randn(2, 5, D),
                IMAGE: torch.randn(2, 3, 8, 8),
            }
            args = tuple(values.get(a, a) if isinstance(a, str) else a for a in arguments)
            path = folder / f"{name}_{way}.pt"
            exported = torch.jit.script(module) if way == "s" else torch.jit.trace(
                module, args, check_trace=False)
            exported.save(str(path))
            made[name, way] = module, args, path
        return made[name, way]

    return make


@pytest.fixture
def vyx(run, tmp_path):
    """vyx(command, archive, request, *sites): the tensors that parity-hooks wrote, or the archive
    that it baked."""
    def call(command, archive, request, *sites):
        torch.save(request, tmp_path / "request.pkl")
        out = tmp_path / f"{command}.out"
        result = run("parity-hooks", command, archive, tmp_path / "request.pkl", out, *sites, env={
            **os.environ, "OMP_NUM_THREADS": "1"
        })
        assert result.returncode == 0, result.stderr.decode()
        return out if command == "bake" else torch.load(
            out, weights_only=False)  # our own file; it names types

    return call


def outputs(tensors):
    return [t for name, t in tensors.items() if name.startswith("output|")]


def assert_same(actual, expected):
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected):
        assert torch.equal(a, e)


def python_calls(module, args):
    """(path, inputs, outputs) of every call, in order of their ends, and the outputs of the
    module."""
    calls, pending, handles = [], {}, []
    for path, submodule in module.named_modules():

        def before(_, inputs, path=path):
            pending.setdefault(path, []).append(flat(inputs))

        def after(_, inputs, output, path=path):
            calls.append((path, pending[path].pop(), flat(output)))

        handles += [
            submodule.register_forward_pre_hook(before),
            submodule.register_forward_hook(after)
        ]
    result = flat(module(*args))
    for handle in handles:
        handle.remove()
    return calls, result


@pytest.mark.parametrize("name,way", EXPORTS)
def test_captures_equal_python_hooks(export, vyx, name, way):
    module, args, archive = export(name, way)
    expected, result = python_calls(module, args)
    tensors = vyx("capture", archive, {"args": args})
    assert_same(outputs(tensors), result)
    calls = {}
    for key, tensor in tensors.items():
        if key.startswith("call|"):
            _, number, path, port, _ = key.split("|")
            calls.setdefault(int(number), (path, [], []))[1 if port == "in" else 2].append(tensor)
    calls = [calls[number] for number in sorted(calls)]
    if name == "fork":
        calls, expected = sorted(calls, key=lambda c: c[0]), sorted(expected, key=lambda c: c[0])
    if way == "t" and name not in TRACED_EXACTLY:
        # what is left of the calls gives what Python's calls give
        assert calls
        known = [tensor for _, _, output in expected for tensor in output]
        for _, _, output in calls:
            assert all(any(torch.equal(tensor, other) for other in known) for tensor in output)
        return
    assert [PYTHON_PATH.get(c[0], c[0]) for c in calls] == [e[0] for e in expected]
    for (path, inputs, output), (_, expected_inputs, expected_output) in zip(calls, expected):
        if way == "s":
            assert_same(inputs, expected_inputs)
            assert_same(output, expected_output)
        else:  # a traced module returns what is used of its outputs
            assert_same(output, expected_output[:len(output)])


def edit(kind, vector, c):
    """The edits of core/edits/edit.h as Python writes them."""
    unit = (vector.double() / vector.double().norm()).float()

    def change(x):
        if kind == "add":
            return x + (vector * c).to(x.dtype)
        readers, writers = unit[None], unit[None]
        z = F.linear(x.float(), readers, torch.zeros(1))
        if kind == "ablate":
            return x + ((z * torch.tensor([-1.0])) @ writers * c).to(x.dtype)
        gate = torch.relu(z) * torch.tensor([-1.0]) + torch.tensor([2.0])
        return x + ((gate @ writers + vector) * c).to(x.dtype)

    return change


def first_changed(value, change):
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return (first_changed(value[0], change), *value[1:])
    return {k: change(v) if i == 0 else v for i, (k, v) in enumerate(value.items())}


EDITS = [
    ("gpt", ["blocks.1", "blocks.2.attention:input"]),
    ("gpt", ["blocks.0.attention", "norm"]),
    ("recurrent", ["lstm"]),
    ("shared", ["shared", "a.shared", "b.shared", "a.own:input"]),
    ("twice", ["linear"]),
    ("dict", ["inner"]),
    ("optional", [""]),
    ("interface", ["layer"]),
    ("fork", ["a", "b"]),
    ("branches", ["a", "b:input"]),
]


@pytest.mark.parametrize("kind", ["add", "ablate", "both"])
@pytest.mark.parametrize("name,sites", EDITS)
def test_edits_and_baked_edits_equal_python_hooks(export, vyx, name, sites, kind):
    for way in CASES[name][2]:
        if way == "t" and name not in TRACED_EXACTLY:
            continue
        module, args, archive = export(name, way)
        vector = torch.randn(D, generator=torch.Generator().manual_seed(3))
        plain = flat(module(*args))
        handles = []
        c = 1.7
        change = edit(kind, vector, c)
        for site in sites:
            path, _, port = site.partition(":")
            if path in PYTHON_PATH:
                continue
            submodule = module.get_submodule(path)
            if port == "input":
                hook = submodule.register_forward_pre_hook(
                    lambda _, inputs: first_changed(inputs, change))
            else:
                hook = submodule.register_forward_hook(
                    lambda _, inputs, out: first_changed(out, change))
            handles.append(hook)
        expected = flat(module(*args))
        with torch.enable_grad():  # other kernels of LSTMs
            expected_with_grad = flat(module(*args))
        for handle in handles:
            handle.remove()
        assert not torch.equal(expected[0], plain[0])

        request = {"args": args, "kind": kind, "vector": vector, "coefficient": c}
        assert_same(outputs(vyx("edit", archive, request, *sites)), expected)
        if name == "interface":
            continue  # an interface has no other methods than its own: bake() refuses (test below)
        baked = torch.jit.load(str(vyx("bake", archive, request, *sites)))
        for _ in range(3):
            assert_same(flat(baked(*args)), expected)
        baked.set_coefficient(0.0)
        assert_same(flat(baked(*args)), plain)
        baked.set_coefficient(c)
        with torch.enable_grad():  # as a user runs it who thinks of nothing
            for _ in range(3):
                assert_same(flat(baked(*args)), expected_with_grad)


def test_a_site_behind_an_interface_is_not_baked(export, run, tmp_path):
    _, args, archive = export("interface", "s")
    torch.save({
        "args": args,
        "kind": "add",
        "vector": torch.ones(D),
        "coefficient": 1.0
    }, tmp_path / "request.pkl")
    result = run("parity-hooks", "bake", archive, tmp_path / "request.pkl", tmp_path / "out.pt",
                 "layer")
    assert result.returncode == 1
    assert "layer:output: 'layer' is declared as an interface" in result.stderr.decode()
    assert not (tmp_path / "out.pt").exists()
