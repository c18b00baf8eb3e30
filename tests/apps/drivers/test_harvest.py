"""vyx-harvest as a user runs it: what is in a store, going on after kills, and what is refused."""

import gzip
import hashlib
import json
import random
import resource
import shutil
import subprocess
import time
from typing import Dict, Optional

import pytest
import torch
from safetensors.torch import load_file, save_file

SITE = "model.layers.1:output"


def documents(count, seed=0):
    text = "the a cat dog sat on mat and ran over hills while rain fell softly upon old grey stones"
    words = text.split()
    choose = random.Random(seed)
    return [
        " ".join(choose.choice(words) for _ in range(choose.randint(3, 40))) for _ in range(count)
    ]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    path.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents(300)))
    return path


def options(model, text, out, *more, tokens=2000, site=SITE, context=32):
    return [
        "--model", model, "--text", text, "--sites", site, "--tokens", tokens, "--out", out,
        "--context", context, "--batch-tokens", 128, "--threads", 1, *more
    ]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows_of(store, site=SITE):
    return torch.cat([load_file(path)[site] for path in sorted(store.glob("shard-*.safetensors"))])


def test_a_store_holds_what_the_model_gives(drivers, tiny_model, tmp_path):
    documents_ = documents(20, seed=1)
    (tmp_path / "a.txt").write_text("\n%\n".join(documents_))
    report = drivers.json("vyx-harvest", "--model", tiny_model, "--text", tmp_path / "a.txt",
                          "--separator", "%", "--sites", "model.layers.{0,1}", "--tokens", 10**6,
                          "--out", tmp_path / "store", "--dtype", "float32", "--context", 512,
                          "--sink-threshold", 0)
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [
        "manifest.json", "shard-00000.safetensors"
    ]
    assert [site["site"] for site in manifest["sites"]] == ["model.layers.0:output", SITE]
    assert manifest["recipe"][
        "model"] == "Tiny 0" and manifest["rows"] == report["rows"] == manifest["tokens"]
    assert manifest["recipe"]["text"] == [{
        "file":
        "a.txt",
        "bytes": (tmp_path / "a.txt").stat().st_size,
        "sha256":
        hashlib.sha256((tmp_path / "a.txt").read_bytes()).hexdigest()
    }]
    assert manifest["shards"][0]["sha256"] == hashlib.sha256(
        (tmp_path / "store" / "shard-00000.safetensors").read_bytes()).hexdigest()

    # The same through stock Python. What a row cannot hold of a document is a document of its own
    # in the next row.
    model = torch.jit.load(tiny_model)
    stored = rows_of(tmp_path / "store")
    assert stored.shape == (report["rows"], 32)
    seen = []
    done = 0
    for document in documents_:
        tokens = tokenize(document + "\n" if document is not documents_[-1] else document)
        while tokens:
            part = tokens[:512 - done % 512]
            seen.append(block_output(model, part))
            done += len(part)
            tokens = tokens[len(part):]
    expected = torch.cat(seen)
    assert expected.shape == stored.shape
    assert (stored - expected).abs().max() < 1e-5 * expected.abs().max()


def tokenize(text):
    """The tiny vocabulary: 3 special tokens, 256 bytes in GPT-2's order, 'he' and ' a'."""
    ids, at = [], 0
    data = text.encode()
    while at < len(data):
        if data[at:at + 2] == b"he":
            ids.append(259)
            at += 2
        elif data[at:at + 2] == b" a":
            ids.append(260)
            at += 2
        else:
            ids.append(3 + data[at])
            at += 1
    return ids


def block_output(model, tokens):
    """[tokens, width] behind block 1, computed without vyx's hooks."""
    with torch.no_grad():
        inner = model.model
        hidden = inner.embed_tokens(torch.tensor([tokens]))
        cos, sin = inner.rotary_emb(torch.arange(len(tokens))[None], 6)
        for k in ("0", "1"):
            hidden = getattr(inner.layers, k)(hidden, cos, sin, None, [], [], 0)
        return hidden[0]


def test_kinds_of_text_give_the_same_store(drivers, tiny_model, tmp_path):
    texts = documents(50, seed=2)
    lines = "".join(json.dumps({"body": text}) + "\n" for text in texts)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "half").write_text("".join(
        json.dumps({"body": text}) + "\n" for text in texts[:20]))
    (tmp_path / "other").write_bytes(
        gzip.compress("".join(json.dumps({"body": text}) + "\n" for text in texts[20:]).encode()))
    stores = []
    for i, files in enumerate((["a.jsonl"], ["a.jsonl.gz"], ["half", "other"])):
        drivers.json("vyx-harvest", "--model", tiny_model, "--text",
                     *(tmp_path / file for file in files), "--text-format", "jsonl", "--text-key",
                     "body", "--sites", SITE, "--tokens", 900, "--out", tmp_path / str(i),
                     "--context", 32)
        stores.append(rows_of(tmp_path / str(i)))
    assert stores[0].shape == (900, 32) and stores[0].dtype == torch.bfloat16
    assert torch.equal(stores[0], stores[1]) and torch.equal(stores[0], stores[2])


def test_running_again_says_that_it_is_finished(drivers, tiny_model, text, tmp_path):
    first = drivers.json("vyx-harvest", *options(tiny_model, text, tmp_path / "store"))
    before = contents(tmp_path / "store")
    assert not first["was_finished"] and first["rows"] == 2000
    again = drivers.run("vyx-harvest", *options(tiny_model, text, tmp_path / "store"))
    assert again.returncode == 0 and "finished already" in again.stdout
    assert contents(tmp_path / "store") == before
    line = drivers.error("vyx-harvest", *options(tiny_model, text, tmp_path / "store", tokens=2001))
    assert "tokens = 2000, found 2001 now" in line
    assert "context = 32, found 64 now" in drivers.error(
        "vyx-harvest", *options(tiny_model, text, tmp_path / "store", context=64))


def test_what_was_left_out_is_shown(drivers, tiny_model, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone two\r\nthree \xff four\x00 five\r\n" * 30)
    result = drivers.run("vyx-harvest", "--model", tiny_model, "--text", tmp_path / "a.txt",
                         "--sites", SITE, "--tokens", 10**6, "--out", tmp_path / "store",
                         "--sink-threshold", 1.1)
    assert result.returncode == 0, result.stderr
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    sinks = manifest["left_out"]["sinks"]
    assert sinks > 0 and manifest["tokens"] == manifest["rows"] + sinks
    assert f"{sinks} attention sinks" in result.stdout
    for words in ("30 sequences that are not UTF-8", "30 NUL bytes", "60 carriage returns",
                  "1 byte order marks", "ended before the 1000000 rows"):
        assert words in result.stderr


def test_killed_at_any_moment_it_ends_with_the_same_bytes(drivers, tiny_model, text, tmp_path):
    arguments = [
        str(argument) for argument in options(tiny_model, text, "STORE", "--shard-megabytes", 1,
                                              "--dtype", "float32", tokens=60000)
    ]
    # Shards of a megabyte hold 8192 rows here; the text ends before the tokens that are asked for.
    command = [str(drivers.folder / "vyx-harvest"), *arguments]

    def run(out):
        return [str(out) if argument == "STORE" else argument for argument in command]

    start = time.monotonic()
    subprocess.run(run(tmp_path / "straight"), check=True, capture_output=True)
    length = time.monotonic() - start
    expected = contents(tmp_path / "straight")
    assert len(expected) > 3
    choose = random.Random(1)
    kills, store = 0, None
    while kills < 24:
        if store is None:
            store = tmp_path / f"killed-{kills}"
        process = subprocess.Popen(run(store), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)
        try:
            _, err = process.communicate(timeout=choose.uniform(0.02, 1.0) * length)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0, err
        assert contents(store) == expected
        shutil.rmtree(store)
        store = None
    if store is not None:
        subprocess.run(run(store), check=True, capture_output=True)
        assert contents(store) == expected


def test_killed_behind_a_shard_it_goes_on_from_there(drivers, tiny_model, text, tmp_path):
    arguments = lambda out: options(tiny_model, text, out, "--shard-megabytes", 1, "--dtype",
                                    "float32", tokens=60000)
    drivers.json("vyx-harvest", *arguments(tmp_path / "straight"))
    store = tmp_path / "store"
    command = [str(argument) for argument in [drivers.folder / "vyx-harvest", *arguments(store)]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (store / "shard-00001.safetensors").exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.001)
    process.kill()
    process.wait()
    resumed = drivers.run("vyx-harvest", *arguments(store))
    assert resumed.returncode == 0 and "went on after" in resumed.stdout, resumed.stderr
    assert contents(store) == contents(tmp_path / "straight")


def test_a_full_disk_is_a_clean_stop_that_can_be_resumed(drivers, tiny_model, text, tmp_path):
    arguments = lambda out: options(tiny_model, text, out, "--shard-megabytes", 1, "--dtype",
                                    "float32", tokens=20000)
    drivers.json("vyx-harvest", *arguments(tmp_path / "straight"))
    half = lambda: resource.setrlimit(resource.RLIMIT_FSIZE,
                                      (700_000, 700_000))  # a shard takes a megabyte
    line = drivers.error("vyx-harvest", *arguments(tmp_path / "store"), preexec_fn=half)
    assert "shard-00000.safetensors: cannot write" in line and "run the same again" in line
    assert not list((tmp_path / "store").glob(".tmp-*")) and not (tmp_path / "store" /
                                                                  "manifest.json").exists()
    drivers.json("vyx-harvest", *arguments(tmp_path / "store"))
    assert contents(tmp_path / "store") == contents(tmp_path / "straight")


def test_inspect_shows_a_store(drivers, tiny_model, text, tmp_path):
    drivers.json("vyx-harvest", *options(tiny_model, text, tmp_path / "store"))
    report = drivers.json("vyx-inspect", tmp_path / "store")
    assert report["kind"] == "activation store" and report["rows"] == 2000 and report["sites"][0][
        "site"] == SITE
    shown = drivers.run("vyx-inspect", tmp_path / "store").stdout
    assert SITE in shown and "2000 rows" in shown
    (tmp_path / "store" / "shard-00000.safetensors").unlink()
    assert "shard-00000.safetensors: is missing" in drivers.error("vyx-inspect", tmp_path / "store")


class Squares(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 4)

    def forward(self, image, scale):
        return self.linear(image * scale[:, None])**2


def test_any_module_harvests_from_tensors(drivers, tmp_path):
    torch.manual_seed(0)
    module = Squares()
    torch.jit.script(module).save(str(tmp_path / "m.pt"))
    image, scale = torch.randn(50, 3), torch.randn(50)
    save_file({"scale": scale, "image": image}, tmp_path / "inputs.safetensors")
    arguments = [
        "--model", tmp_path / "m.pt", "--inputs", tmp_path / "inputs.safetensors", "--sites",
        "linear", "--tokens", 40, "--dtype", "float32", "--batch-tokens", 7, "--sink-threshold", 0
    ]
    drivers.json("vyx-harvest", *arguments, "--out", tmp_path / "store")
    expected = module.linear(image * scale[:, None])[:40]
    assert torch.allclose(rows_of(tmp_path / "store", "linear:output"), expected, atol=1e-6)
    save_file({"image": image}, tmp_path / "inputs.safetensors")
    assert "found no tensor scale" in drivers.error("vyx-harvest", *arguments, "--out",
                                                    tmp_path / "other")
    save_file({
        "scale": scale,
        "image": image,
        "label": scale.clone()
    }, tmp_path / "inputs.safetensors")
    assert "image, scale" in drivers.error("vyx-harvest", *arguments, "--out", tmp_path / "other")
    assert "--text or --inputs" in drivers.error("vyx-harvest", *arguments, "--text",
                                                 tmp_path / "a.txt", "--out", tmp_path / "other",
                                                 code=2)
    assert not (tmp_path / "other").exists()


class Net(torch.nn.Module):
    """Values of several shapes and kinds."""
    def __init__(self):
        super().__init__()
        self.embed, self.members = torch.nn.Embedding(10, 6), Members()
        self.conv, self.noise = torch.nn.Conv2d(6, 4, 1), Noise()

    def forward(self, ids, attention_mask: Optional[torch.Tensor] = None,
                shift: Optional[torch.Tensor] = None):
        x = self.embed(ids)  # [n, seq, 6]
        if attention_mask is not None:
            x = x * attention_mask[:, :, None]
        if shift is not None:
            x = x + shift[:, :, None]
        hidden = self.noise(self.members(x)["hidden"])
        return self.conv(hidden.transpose(1, 2)[:, :, :, None])


class Members(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Dict[str, torch.Tensor]:
        return {"half": x / 2, "hidden": x}


class Noise(torch.nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """A folder with net.pt, and inputs of three sequences, two of which are padded."""
    folder = tmp_path_factory.mktemp("net")
    torch.manual_seed(0)
    torch.jit.script(Net()).save(str(folder / "net.pt"))
    ids = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 0, 0, 0], [8, 0, 0, 0, 0]])
    inputs = {"ids": ids, "attention_mask": (ids > 0).long()}
    save_file(inputs, folder / "padded.safetensors")
    save_file({"ids": ids, "shift": torch.full((3, 5), 100.0)}, folder / "shift.safetensors")
    return folder


def net_options(net, inputs, site, out, *more):
    return [
        "--model", net / "net.pt", "--inputs", net / f"{inputs}.safetensors", "--sites", site,
        "--tokens", 15, "--dtype", "float32", "--out", out, "--batch-tokens", 2, *more
    ]


def test_arguments_go_by_name_and_absent_ones_are_absent(drivers, net, tmp_path):
    drivers.json("vyx-harvest", *net_options(net, "shift", "members:input", tmp_path / "store"))
    weight = dict(torch.jit.load(net / "net.pt").named_parameters())["embed.weight"].detach()
    ids = load_file(net / "shift.safetensors")["ids"]
    assert torch.equal(rows_of(tmp_path / "store", "members:input"),
                       (weight[ids] + 100).reshape(-1, 6))


def test_padding_is_never_kept_in_silence(drivers, net, tmp_path):
    run = lambda out, *more: drivers.run(
        "vyx-harvest", *net_options(net, "padded", "embed", tmp_path / out, *more))
    weight = dict(torch.jit.load(net / "net.pt").named_parameters())["embed.weight"].detach()
    ids = load_file(net / "padded.safetensors")["ids"]
    taken, named, kept = run("a"), run("b", "--mask", "attention_mask"), run("c", "--mask", "none")
    assert "attention_mask is taken for the mask of padding: 7 of 15 places" in taken.stderr
    assert "attention_mask" not in named.stderr + kept.stderr
    for store in ("a", "b"):
        assert torch.equal(rows_of(tmp_path / store, "embed:output"), weight[ids[ids > 0]])
    assert torch.equal(rows_of(tmp_path / "c", "embed:output"), weight[ids].reshape(-1, 6))
    error = lambda *more, **kwargs: drivers.error(
        "vyx-harvest", *net_options(net, "padded", "embed", tmp_path / "d", *more), **kwargs)
    assert "found no tensor real to be the mask" in error("--mask", "real")
    assert not (tmp_path / "d").exists()


def test_how_values_were_read_is_said(drivers, net, tmp_path):
    run = lambda site: drivers.run("vyx-harvest", *net_options(net, "shift", site, tmp_path / site)
                                   ).stderr
    assert ("warning: members:output: found [2, 5, 6]: read as 10 rows of 6 values along the last "
            "dimension; ['half'] is the first of several tensors\n") in run("members")
    conv = drivers.error("vyx-harvest", *net_options(net, "shift", "conv", tmp_path / "conv"))
    assert "conv:output: found shape [2, 4, 5, 1], expected at most 3 dimensions" in conv
    assert not (tmp_path / "conv").exists()
    few = net_options(net, "shift", "embed", tmp_path / "few")
    few[few.index(15)] = 9
    assert "of the first 2 of 3 examples" in drivers.run("vyx-harvest", *few).stderr


def test_a_traced_module_is_named_as_one(drivers, tmp_path):
    class Last(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = torch.nn.LSTM(5, 8, 3, batch_first=True), torch.nn.Linear(8, 2)

        def forward(self, x):
            _, (h, _) = self.lstm(x)
            return self.head(h[-1])

    x = torch.randn(2, 7, 5)
    torch.jit.trace(Last(), (x, )).save(str(tmp_path / "net.pt"))
    save_file({"x": x}, tmp_path / "x.safetensors")
    result = drivers.run("vyx-harvest", "--model", tmp_path / "net.pt", "--inputs",
                         tmp_path / "x.safetensors", "--sites", "lstm", "--tokens", 6, "--out",
                         tmp_path / "store")
    assert result.returncode == 0, result.stderr
    assert "lstm:output: found [3, 2, 8]: read as 6 rows" in result.stderr
    assert "the module was traced" in result.stderr


def test_the_seed_is_also_the_module_s(drivers, net, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        drivers.json("vyx-harvest",
                     *net_options(net, "shift", "noise", tmp_path / name, "--seed", seed))
    same = [rows_of(tmp_path / name, "noise:output") for name in "abc"]
    assert torch.equal(same[0], same[1]) and not torch.equal(same[0], same[2])
    assert "was begun with seed = 1, found 2 now" in drivers.error(
        "vyx-harvest", *net_options(net, "shift", "noise", tmp_path / "a", "--seed", 2))


def test_rows_that_are_mostly_zero_are_all_kept(drivers, tmp_path):
    module = torch.nn.Sequential(torch.nn.ReLU())
    torch.jit.script(module).save(str(tmp_path / "relu.pt"))
    x = torch.full((50, 4), -1.0)
    x[:9] = 3
    x[0] = 1000
    save_file({"input": x}, tmp_path / "x.safetensors")
    command = [
        "--model", tmp_path / "relu.pt", "--inputs", tmp_path / "x.safetensors", "--sites", "0",
        "--tokens", 50, "--dtype", "float32"
    ]
    for name, more in (("store", []), ("asked", ["--sink-threshold", 10])):
        drivers.json("vyx-harvest", *command, "--out", tmp_path / name, *more)
        assert torch.equal(rows_of(tmp_path / name, "0:output"), x.relu())


def test_a_stateful_module_goes_on_with_the_same_bytes(drivers, tmp_path):
    class Stream(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = torch.nn.Linear(4, 1024), torch.nn.Linear(1024, 4)
            self.state: torch.Tensor = torch.zeros(1, 4)

        def forward(self, x):
            y = self.up(x + self.state)
            self.state = torch.tanh(self.down(y).mean(0, keepdim=True))
            return y

    torch.manual_seed(0)
    x = torch.randn(2000, 4)
    torch.jit.script(Stream()).save(str(tmp_path / "net.pt"))
    save_file({"x": x}, tmp_path / "x.safetensors")
    module, expected = torch.jit.load(tmp_path / "net.pt"), []
    with torch.no_grad():
        for row in range(0, 2000, 2):
            expected.append(module(x[row:row + 2]))
    command = lambda out: list(
        map(str, [
            drivers.folder / "vyx-harvest", "--model", tmp_path / "net.pt", "--inputs", tmp_path /
            "x.safetensors", "--sites", ":output", "--tokens", 2000, "--dtype", "float32",
            "--batch-tokens", 2, "--shard-megabytes", 1, "--threads", 1, "--out", tmp_path / out
        ]))
    subprocess.run(command("straight"), check=True, capture_output=True)
    assert torch.allclose(rows_of(tmp_path / "straight", ":output"), torch.cat(expected), atol=1e-5)
    process = subprocess.Popen(command("store"), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    while not (tmp_path / "store" / "shard-00002.safetensors").exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.001)
    process.kill()
    process.wait()
    resumed = subprocess.run(command("store"), capture_output=True, text=True)
    assert resumed.returncode == 0 and "went on after" in resumed.stdout, resumed.stderr
    assert contents(tmp_path / "store") == contents(tmp_path / "straight")


# --- Bad input


def test_bad_options_and_texts_are_refused(drivers, tiny_model, text, tmp_path):
    error = lambda *args, **kwargs: drivers.error("vyx-harvest", *args, **kwargs)
    out = tmp_path / "store"
    assert "--tokens 0" in error(*options(tiny_model, text, out, tokens=0), code=2)
    assert "model.layers.9" in error(*options(tiny_model, text, out, site="model.layers.9"))
    some = options(tiny_model, text, out, site="model.layers.{1..4}")
    assert "no site matches 'model.layers.3:output', one of 4 that" in error(*some)
    assert "found nothing between two commas" in error(
        *options(tiny_model, text, out, site="model.layers.{1,}"))
    assert "--sites: found an empty text, expected PATTERN" in error(
        *options(tiny_model, text, out, site=""), code=2)
    assert "--mask has no effect without --inputs" in error(
        *options(tiny_model, text, out, "--mask", "m"), code=2)
    assert "no.txt" in error(*options(tiny_model, tmp_path / "no.txt", out))
    assert "regular file" in error(*options(tiny_model, tmp_path, out))
    assert "context of 4096" in error(*options(tiny_model, text, out, context=4096))
    assert "dtype int8" in error(*options(tiny_model, text, out, "--dtype", "int8"), code=2)
    (tmp_path / "empty.txt").write_text(" \n \n")
    assert "no row" in error(*options(tiny_model, tmp_path / "empty.txt", tmp_path / "none"),
                             "--quiet")
    (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{"body": "not"}\n')
    assert "bad.jsonl:2" in error(*options(tiny_model, tmp_path / "bad.jsonl", tmp_path / "bad"))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    assert "thesis.tex" in error(*options(tiny_model, text, tmp_path / "thesis"))
    assert not out.exists() and not (tmp_path / "none").exists() and not (tmp_path / "bad").exists()


def test_a_text_that_changed_is_refused(drivers, tiny_model, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("some words " * 500)
    drivers.json("vyx-harvest", *options(tiny_model, path, tmp_path / "store", tokens=200))
    path.write_text("other words " * 500)
    assert "was begun with text = " in drivers.error(
        "vyx-harvest", *options(tiny_model, path, tmp_path / "store", tokens=200))
