"""Files that mean harm: refused in one line, soon, in little memory, and nothing of them runs or
reaches the terminal."""

import io
import json
import os
import re
import resource
import struct
import subprocess
import time
import zipfile
from typing import Tuple

import gguf
import numpy as np
import pytest
import torch

from conftest import write_tiny_gguf
from test_drivers import DRIVERS

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj.\r"
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def measured(drivers, driver, *args):
    """The exit code, what was on stderr, and the seconds and MiB that it took."""
    begin = time.monotonic()
    process = subprocess.Popen([str(drivers.folder / driver), *map(str, args)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, errors, time.monotonic() - begin, usage.ru_maxrss / 1024


def expect_cheap_refusal(drivers, path, reason):
    """Refused, with at most 80 MiB more than a program needs that does nothing."""
    _, _, seconds, idle = measured(drivers, "vyx-inspect", "--version")
    code, errors, took, megabytes = measured(drivers, "vyx-inspect", path)
    assert code == 1 and errors.count("\n") == 1 and reason in errors, errors
    assert megabytes < idle + 80, (idle, megabytes)
    assert took < seconds + 5


# --- One budget of bytes per file


def test_many_entries_that_inflate_to_little_each(drivers, tmp_path):
    array = io.BytesIO()
    np.lib.format.write_array(array, np.zeros(10 << 20, np.float32))
    with zipfile.ZipFile(tmp_path / "params.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(8):
            archive.writestr(f"a{i}.npy", array.getvalue())
    expect_cheap_refusal(drivers, tmp_path / "params.npz", "at most 100 times as many")


def write_pickle(path, pickle):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (("data.pkl", pickle), ("byteorder", b"little"), ("version", b"3\n")):
            archive.writestr("archive/" + name, content)


def test_one_text_that_is_referred_to_often(drivers, tmp_path):
    pickle = b"\x80\x02}(X" + struct.pack("<I", 1) + b"a](X" + struct.pack("<I", 300_000)
    write_pickle(tmp_path / "ae.pt",
                 pickle + b"x" * 300_000 + b"q\x00" + b"h\x00" * 90_000 + b"eu.")
    expect_cheap_refusal(drivers, tmp_path, "bytes of text")


def test_one_record_that_many_tensors_view(drivers, tmp_path):
    record = torch.zeros(1 << 20)
    torch.save({f"w{i}": record.view(1024, 1024) for i in range(500)}, tmp_path / "ae.pt")
    expect_cheap_refusal(drivers, tmp_path, "found tensors of more than")


# --- Memory that runs out


def limited(drivers, driver, *args, megabytes):
    limit = megabytes << 20
    return subprocess.run([str(drivers.folder / driver), *map(str, args), "--threads=1"],
                          capture_output=True, text=True, timeout=120,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))


@pytest.fixture(scope="module")
def wide_model(drivers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide")
    drivers.json("vyx-import", write_tiny_gguf(folder / "wide.gguf", width=1024), "--out",
                 folder / "wide.pt")
    return folder


def test_memory_that_runs_out_is_one_line(drivers, wide_model, tiny_pairs, tmp_path):
    model = ("--model", wide_model / "wide.pt")
    commands = [("vyx-import", wide_model / "wide.gguf", "--out", tmp_path / "m.pt"),
                ("vyx-generate", *model, "--prompt", "x", "-n", 1),
                ("vyx-vector", *model, "--contrast", tiny_pairs, "--out", tmp_path / "v.gguf")]
    low, high = 64, 1 << 14  # what a program needs that does nothing
    while high - low > 64:
        middle = (low + high) // 2
        if limited(drivers, "vyx-generate", "--version", megabytes=middle).returncode == 0:
            high = middle
        else:
            low = middle
    for driver, *args in commands:
        codes = []
        for more in (8, 48, 120, 4096):
            result = limited(drivers, driver, *args, megabytes=high + more)
            codes.append(result.returncode)
            if result.returncode == 0:
                continue
            assert result.returncode == 1, (driver, more, result.returncode, result.stderr)
            assert result.stderr.count("\n") == 1 and "memory" in result.stderr, result.stderr
            assert not list(tmp_path.glob(".tmp-*"))
        assert codes[0] == 1 and codes[-1] == 0, (driver, codes)


# --- Terminals


@pytest.mark.parametrize("driver", DRIVERS)
def test_no_error_moves_the_cursor(drivers, driver):
    for argument in (f"--{ESCAPES}", f"--seed={ESCAPES}", f"--out={ESCAPES}"):
        result = drivers.run(driver, argument)
        assert result.returncode == 2 and result.stdout == ""
        assert not UNSAFE.search(result.stderr.rstrip("\n")), repr(result.stderr)


def test_names_in_files_are_shown_escaped_and_given_whole(drivers, tmp_path):
    path = tmp_path / "names.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(ESCAPES)
    writer.add_string("key\x1b[2J", "\u202eevil")
    writer.add_tensor("weight\x1b[31m", np.zeros((2, 2), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    result = drivers.run("vyx-inspect", path)
    assert result.returncode == 0 and "\\u001b]0;owned" in result.stdout
    assert "weight\\u001b[31m" in result.stdout and "\\u202eevil" in result.stdout
    assert not UNSAFE.search(result.stdout)
    result = drivers.run("vyx-inspect", path, "--json")
    assert not UNSAFE.search(result.stdout)
    report = json.loads(result.stdout)
    assert report["metadata"]["general.name"] == ESCAPES
    assert report["metadata"]["key\x1b[2J"] == "\u202eevil"
    assert report["tensors"][0]["name"] == "weight\x1b[31m"
    error = drivers.error("vyx-import", path, "--out", tmp_path / "m.pt")
    assert not UNSAFE.search(error.rstrip("\n"))


def test_generated_text_is_shown_escaped_and_given_whole(drivers, tiny_model):
    command = ("vyx-generate", "--model", tiny_model, "--prompt", "x", "--temperature", 2, "-n",
               400, "--ignore-end", "--quiet")
    shown = drivers.run(*command).stdout
    assert "\\u00" in shown and not UNSAFE.search(shown)
    assert UNSAFE.search(drivers.json(*command)["text"])


def test_what_an_archive_prints_is_a_clean_line_on_stderr(drivers, tmp_path):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(2, 2)

        def forward(self, x):
            print("\x1b[2Jhello")
            return self.linear(x)

    torch.jit.script(Net()).save(tmp_path / "m.pt")
    np.save(tmp_path / "x.npy", np.zeros((4, 2), np.float32))
    from safetensors.numpy import save_file
    save_file({"x": np.zeros((4, 2), np.float32)}, tmp_path / "x.safetensors")
    result = drivers.run("vyx-harvest", "--model", tmp_path / "m.pt", "--inputs",
                         tmp_path / "x.safetensors", "--sites", "linear", "--tokens", 4, "--out",
                         tmp_path / "store", "--json")
    assert result.returncode == 0 and json.loads(result.stdout)["rows"] == 4
    assert "\\u001b[2Jhello" in result.stderr and "\x1b" not in result.stderr


# --- Archives whose loading runs code


class Writes(torch.nn.Module):
    """Writes a file when it is loaded."""
    def __init__(self, path: str):
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self):
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[str, bool]):
        self.path = state[0]
        self.training = state[1]
        torch.save(torch.ones(1), state[0])

    def forward(self, x):
        return x + 1


def test_an_archive_that_would_write_while_it_is_loaded(drivers, tmp_path):
    written, model = tmp_path / "written", tmp_path / "m.pt"
    torch.jit.script(Writes(str(written))).save(model)
    report = drivers.json("vyx-inspect", model)
    assert report["sites"] and report["opaque"] == [""]
    for command in (("vyx-inspect", model, "--run"), ("vyx-generate", "--model", model, "--prompt",
                                                      "x")):
        line = drivers.error(*command)
        assert "aten::save" in line and "code/__torch__" in line and "--trust" in line
    assert not written.exists()
    drivers.json("vyx-inspect", model, "--run", "--trust")
    assert written.exists()


def changed_archive(source, target, change, compression=zipfile.ZIP_STORED):
    """A copy of an archive; `change(name, content)` gives other records, or None to drop one."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)


def test_archives_whose_records_lie(drivers, tiny_model, tmp_path):
    def expect(reason, change, **options):
        changed_archive(tiny_model, tmp_path / "m.pt", change, **options)
        line = drivers.error("vyx-generate", "--model", tmp_path / "m.pt", "--prompt", "x")
        assert "m.pt" in line and reason in line

    changed_archive(tiny_model, tmp_path / "m.pt", lambda name, content: content)
    drivers.json("vyx-generate", "--model", tmp_path / "m.pt", "--prompt", "x", "-n", 1)
    expect("found 3 bytes in the record", lambda name, content: content[:3]
           if name.endswith("data/0") else content)
    expect("compressed record", lambda name, content: content, compression=zipfile.ZIP_DEFLATED)
    expect("found no record", lambda name, content: None if name.endswith("data/1") else content)
    expect(
        "brackets nested deeper", lambda name, content: b"(" * 10**5
        if name.endswith("code/__torch__.py") or name.endswith(".py") else content)
