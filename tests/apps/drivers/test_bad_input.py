"""Bad input: one clear line, exit 1, and no file left behind."""

import json
import os
import subprocess

import numpy as np
import pytest
import torch

from conftest import PAIRS, write_tiny_gguf


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


# --- GGUF (tests/core/formats/gguf_hostile_test.cpp has many more damaged directories)


@pytest.mark.parametrize("content, expected", [
    (b"", "GGUF"),
    (b"PK\x03\x04 not a gguf", "magic"),
    (b"GGUF\x63\x00\x00\x00" + bytes(16), "version"),
    (b"GGUF\x03\x00\x00\x00" + b"\xff" * 16, "tensor"),
])
def test_import_refuses_what_is_no_gguf(drivers, tmp_path, content, expected):
    (tmp_path / "bad.gguf").write_bytes(content)
    line = drivers.error("vyx-import", tmp_path / "bad.gguf", "--out", tmp_path / "out.pt")
    assert "bad.gguf" in line and expected in line
    assert left_in(tmp_path) == ["bad.gguf"]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_import_refuses_a_truncated_file(drivers, tiny_gguf, tmp_path, share):
    whole = tiny_gguf.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:int(len(whole) * share)])
    assert "cut.gguf" in drivers.error("vyx-import", tmp_path / "cut.gguf", "--out",
                                       tmp_path / "out.pt")
    assert left_in(tmp_path) == ["cut.gguf"]


def test_import_names_a_missing_tokenizer(drivers, tmp_path):
    write_tiny_gguf(tmp_path / "mute.gguf", tokenizer=False)
    line = drivers.error("vyx-import", tmp_path / "mute.gguf", "--out", tmp_path / "out.pt")
    assert "tokenizer" in line and left_in(tmp_path) == ["mute.gguf"]


def test_import_of_a_missing_file_and_of_a_folder(drivers, tmp_path):
    assert "no.gguf" in drivers.error("vyx-import", tmp_path / "no.gguf", "--out",
                                      tmp_path / "out.pt")
    assert "regular file" in drivers.error("vyx-import", tmp_path, "--out", tmp_path / "out.pt")


# --- Contrast sets


@pytest.mark.parametrize("lines, expected", [
    ([], "no pair"),
    ([PAIRS[0], {
        "positive": "only"
    }], "pairs.jsonl:2"),
    ([PAIRS[0], {
        "positive": "a",
        "negative": ""
    }], "pairs.jsonl:2"),
    ([PAIRS[0], PAIRS[1], {
        "positive": "same",
        "negative": "same"
    }], "pairs.jsonl:3"),
    ([PAIRS[0], "not an object"], "pairs.jsonl:2"),
])
def test_vector_names_the_bad_line_of_a_contrast_set(drivers, tiny_model, tmp_path, lines,
                                                     expected):
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    line = drivers.error("vyx-vector", "--model", tiny_model, "--contrast",
                         tmp_path / "pairs.jsonl", "--out", tmp_path / "v.gguf")
    assert expected in line and left_in(tmp_path) == ["pairs.jsonl"]


def test_vector_wants_one_source_of_pairs(drivers, tiny_model, tmp_path):
    line = drivers.error("vyx-vector", "--model", tiny_model, "--out", tmp_path / "v.gguf", code=2)
    assert "--contrast" in line and "--template" in line


def test_vector_lists_the_methods_when_there_is_no_such_one(drivers, tiny_model, tiny_pairs,
                                                            tmp_path):
    line = drivers.error("vyx-vector", "--model", tiny_model, "--contrast", tiny_pairs, "--method",
                         "pca", "--out", tmp_path / "v.gguf", code=2)
    assert "\"pca\"" in line and "pca-center, pca-diff, mean, logistic" in line
    assert left_in(tmp_path) == []


def test_import_refuses_weights_that_are_not_finite(drivers, tmp_path):
    spoil = lambda name, array: np.full_like(array, np.nan
                                             ) if name == "blk.1.ffn_down.weight" else array
    write_tiny_gguf(tmp_path / "nan.gguf", spoil=spoil)
    assert "blk.1.ffn_down.weight" in drivers.error("vyx-import", tmp_path / "nan.gguf", "--out",
                                                    tmp_path / "out.pt")
    assert left_in(tmp_path) == ["nan.gguf"]


def test_vector_names_the_site_of_a_nan_activation(drivers, tiny_pairs, tmp_path):
    spoil = lambda name, array: array * np.float32(1e38
                                                   ) if name == "blk.1.ffn_down.weight" else array
    write_tiny_gguf(tmp_path / "nan.gguf", spoil=spoil)
    drivers.json("vyx-import", tmp_path / "nan.gguf", "--out", tmp_path / "nan.pt")
    line = drivers.error("vyx-vector", "--model", tmp_path / "nan.pt", "--contrast", tiny_pairs,
                         "--out", tmp_path / "v.gguf")
    assert "model.layers.1:output" in line and not (tmp_path / "v.gguf").exists()


def test_an_unknown_site_names_the_nearest(drivers, tiny_model, tiny_pairs, tmp_path):
    line = drivers.error("vyx-vector", "--model", tiny_model, "--contrast", tiny_pairs, "--sites",
                         "model.layer.1", "--out", tmp_path / "v.gguf")
    assert "model.layer.1" in line and "model.layers.1" in line


# --- Vectors


@pytest.fixture(scope="session")
def other_models(drivers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("others")
    write_tiny_gguf(folder / "wide.gguf", width=64)
    write_tiny_gguf(folder / "other.gguf", seed=1)
    for name in ("wide", "other"):
        drivers.json("vyx-import", folder / f"{name}.gguf", "--out", folder / f"{name}.pt")
    return folder


def test_a_vector_of_another_width_is_refused(drivers, other_models, tiny_vector):
    line = drivers.error("vyx-generate", "--model", other_models / "wide.pt", "--prompt", "x",
                         "--vector", tiny_vector, "--allow-other-model")
    assert "32" in line and "64" in line and str(tiny_vector) in line


def test_a_vector_of_another_model_is_refused_unless_allowed(drivers, other_models, tiny_vector):
    command = ("vyx-generate", "--model", other_models / "other.pt", "--prompt", "x",
               "--max-tokens", 2, "--vector", tiny_vector)
    line = drivers.error(*command)
    assert "Tiny 0" in line and "Tiny 1" in line and "--allow-other-model" in line
    assert drivers.run(*command, "--allow-other-model").returncode == 0


def test_sites_that_the_vector_lacks_are_refused(drivers, tiny_model, tiny_vector):
    line = drivers.error("vyx-generate", "--model", tiny_model, "--prompt", "x", "--vector",
                         tiny_vector, "--sites", "model.layers.0")
    assert "model.layers.0" in line


def test_a_model_gguf_is_no_vector(drivers, tiny_model, tiny_gguf):
    line = drivers.error("vyx-generate", "--model", tiny_model, "--prompt", "x", "--vector",
                         tiny_gguf)
    assert "controlvector" in line and "llama" in line


@pytest.mark.parametrize("coefficient", ["nan", "x", ""])
def test_a_coefficient_is_a_number(drivers, tiny_model, tiny_vector, coefficient):
    drivers.error("vyx-generate", "--model", tiny_model, "--prompt", "x", "--vector",
                  f"{tiny_vector}={coefficient}", code=2)


# --- Archives


def test_a_pt_that_is_no_language_model_says_so(drivers, tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "net.pt")
    assert "config.json" in drivers.error("vyx-generate", "--model", tmp_path / "net.pt",
                                          "--prompt", "x")
    torch.save({"w": torch.zeros(2)}, tmp_path / "state.pt")
    assert "state.pt" in drivers.error("vyx-generate", "--model", tmp_path / "state.pt", "--prompt",
                                       "x")
    (tmp_path / "text.pt").write_text("hello")
    assert "text.pt" in drivers.error("vyx-generate", "--model", tmp_path / "text.pt", "--prompt",
                                      "x")


def test_a_truncated_archive_is_refused(drivers, tiny_model, tmp_path):
    (tmp_path / "cut.pt").write_bytes(tiny_model.read_bytes()[:-2000])
    assert "cut.pt" in drivers.error("vyx-generate", "--model", tmp_path / "cut.pt", "--prompt",
                                     "x")


def test_prompts_are_neither_empty_nor_too_long(drivers, tiny_model):
    assert "no token" in drivers.error("vyx-generate", "--model", tiny_model, "--prompt", "")
    assert "512" in drivers.error("vyx-generate", "--model", tiny_model, "--prompt", "x" * 600)


# --- Outputs


def outputs(tiny_gguf, tiny_model, tiny_pairs, tiny_vector):
    return {
        "vyx-import": (tiny_gguf, ),
        "vyx-vector": ("--model", tiny_model, "--contrast", tiny_pairs),
        "vyx-export": ("--model", tiny_model, "--vector", tiny_vector),
    }


@pytest.mark.parametrize("driver", ["vyx-import", "vyx-vector", "vyx-export"])
@pytest.mark.parametrize("out", ["missing/out", ".", "/dev/full"])
def test_an_output_that_cannot_be_written(drivers, tiny_gguf, tiny_model, tiny_pairs, tiny_vector,
                                          tmp_path, driver, out):
    target = tmp_path / out
    line = drivers.error(driver,
                         *outputs(tiny_gguf, tiny_model, tiny_pairs, tiny_vector)[driver], "--out",
                         target)
    assert str(target) in line and left_in(tmp_path) == []


@pytest.mark.parametrize("driver", ["vyx-import", "vyx-export"])
def test_a_full_disk_leaves_the_old_file(drivers, tiny_gguf, tiny_model, tiny_pairs, tiny_vector,
                                         tmp_path, driver):
    """A tmpfs of 64 KiB in a mount namespace of its own; without the right to make one, a limit on
    the size of files."""
    args = [str(arg) for arg in outputs(tiny_gguf, tiny_model, tiny_pairs, tiny_vector)[driver]]
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (f'mount -t tmpfs -o size=64k none "{disk}" && echo old > "{disk}/out.pt" && '
              f'{{ "$@"; code=$?; cat "{disk}/out.pt"; ls -A "{disk}"; exit $code; }}')
    command = [
        "unshare", "-Urm", "sh", "-c", script, "sh",
        str(drivers.folder / driver), *args, "--out",
        str(disk / "out.pt")
    ]
    if subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "none",
                       str(disk)], capture_output=True).returncode != 0:
        (disk / "out.pt").write_text("old\n")
        script = f'ulimit -f 64; "$@"; code=$?; cat "{disk}/out.pt"; ls -A "{disk}"; exit $code'
        command[:5] = ["sh", "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1, (result.stdout, result.stderr)
    assert "out.pt" in result.stderr and result.stderr.count("\n") == 1
    assert result.stdout == "old\nout.pt\n"


def test_a_full_stdout_is_a_failure(drivers, tiny_model):
    with open("/dev/full", "w") as full:
        result = subprocess.run([str(drivers.folder / "vyx-inspect"),
                                 str(tiny_model)], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1 and "stdout" in result.stderr


def test_an_unknown_device_and_an_absent_one(drivers, tiny_model):
    command = ("vyx-generate", "--model", tiny_model, "--prompt", "x", "--device")
    assert "--device" in drivers.error(*command, "toaster", code=2)
    if not torch.cuda.is_available():
        assert "CUDA" in drivers.error(*command, "cuda")
