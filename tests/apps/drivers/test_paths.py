"""Nothing that a driver reads is written, and nothing half-written stays, whatever ends it."""

import os
import shutil
import signal
import subprocess
import time

import pytest
import torch

from conftest import write_tiny_gguf
from test_drivers import DRIVERS

# --- Outputs that are inputs


def arguments(options, folder, chosen):
    """The chosen options, and what else is required: paths that are not there, or 1."""
    given = [f"--{name}={value}" for name, value in chosen.items()]
    return given + [
        f"--{option['name']}={folder / 'no' / option['name'] if 'written' in option else 1}"
        for option in options if option["required"] and option["name"] not in chosen
    ]


@pytest.mark.parametrize("driver", DRIVERS)
def test_no_output_may_be_an_input(drivers, driver, tmp_path):
    (tmp_path / "folder").mkdir()
    same = tmp_path / "same"
    same.write_text("mine")
    os.link(same, tmp_path / "hard")
    os.symlink("same", tmp_path / "link")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    names = [same, tmp_path / "folder/../same", tmp_path / "link", tmp_path / "hard"]
    options = drivers.describe(driver)["options"]
    written = [option["name"] for option in options if option.get("written")]
    read = [option for option in options if option.get("written") is False]
    for output in written:
        for i, option in enumerate(read):
            value = f"{names[i % 4]}=2" if option["value"] == "FILE[=C]" else names[i % 4]
            line = drivers.error(
                driver,
                *arguments(options, tmp_path, {
                    output: names[i // 4 % 4],
                    option["name"]: value
                }))
            assert f"--{output} would overwrite what --{option['name']} reads" in line
    for output in written[1:]:
        line = drivers.error(
            driver, *arguments(options, tmp_path, {
                written[0]: same,
                output: tmp_path / "link"
            }))
        assert f"for --{written[0]} and for --{output}" in line
    assert same.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_every_output_is_known_as_one(drivers):
    written = {(driver, option["name"])
               for driver in DRIVERS
               for option in drivers.describe(driver)["options"] if option.get("written")}
    named = {(driver, option["name"])
             for driver in DRIVERS
             for option in drivers.describe(driver)["options"]
             if option["name"] == "out" or option["name"].endswith("-out")}
    assert written == named | {("vyx-implicit", "gguf")}


def test_a_folder_is_not_written_into_itself(drivers, tiny_model, text, tmp_path):
    store = tmp_path / "store"
    harvest = ("--sites", "model.layers.1", "--tokens", 20, "--model", tiny_model)
    shutil.copy(text, tmp_path / "text")
    assert "a folder that holds what --text reads" in drivers.error("vyx-harvest", *harvest,
                                                                    "--text", tmp_path / "text",
                                                                    "--out", tmp_path)
    drivers.json("vyx-harvest", *harvest, "--text", text, "--out", store)
    before = {path: path.read_bytes() for path in store.iterdir()}
    for out in (store, store / "manifest.json"):
        assert "--activations reads" in drivers.error("vyx-sae-train", "--activations", store,
                                                      "--latents", 8, "--out", out)
    assert {path: path.read_bytes() for path in store.iterdir()} == before


# --- Programs that are stopped


@pytest.fixture(scope="module")
def wide_gguf(tmp_path_factory):
    """One whose archive takes a while to write."""
    return write_tiny_gguf(tmp_path_factory.mktemp("wide") / "wide.gguf", width=1536)


def temporary(folder):
    return [path for path in folder.rglob(".tmp-*")]


def start(drivers, driver, *args, ignored=()):
    def preexec():
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN if each in ignored else signal.SIG_DFL)

    return subprocess.Popen([str(drivers.folder / driver), *map(str, args)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                            preexec_fn=preexec)


def wait_for_temporary(process, folder, size):
    """Until a temporary file in the folder has this size."""
    while process.poll() is None:
        for path in temporary(folder):
            try:
                if path.stat().st_size >= size:
                    return
            except FileNotFoundError:
                pass
        time.sleep(0.0005)
    raise AssertionError("it ended before it could be stopped")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_import_that_is_stopped_leaves_nothing(drivers, wide_gguf, tmp_path, stop):
    (tmp_path / "m.pt").write_text("old")
    process = start(drivers, "vyx-import", wide_gguf, "--out", tmp_path / "m.pt")
    wait_for_temporary(process, tmp_path, 1 << 20)
    process.send_signal(stop)
    assert process.wait(60) == 128 + stop
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]
    assert (tmp_path / "m.pt").read_text() == "old"


def test_a_signal_that_is_ignored_stays_so(drivers, wide_gguf, tmp_path):
    process = start(drivers, "vyx-import", wide_gguf, "--out", tmp_path / "m.pt",
                    ignored=(signal.SIGHUP, ))
    wait_for_temporary(process, tmp_path, 1)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0 and not temporary(tmp_path)


def test_a_harvest_that_is_stopped_leaves_no_temporary_file(drivers, tiny_model, text, tmp_path):
    store = tmp_path / "store"
    process = start(drivers, "vyx-harvest", "--model", tiny_model, "--text", *[text] * 200,
                    "--sites", "model.layers.1", "--tokens", 200_000, "--out", store)
    wait_for_temporary(process, tmp_path, 1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert not temporary(tmp_path)


def test_a_second_signal_ends_a_training_at_once(drivers, tiny_model, text, tmp_path):
    process = start(drivers, "vyx-sae-train", "--model", tiny_model, "--text", text, "--sites",
                    "model.layers.1", "--latents", 64, "--k", 4, "--batch", 16, "--tokens", 10**7,
                    "--out", tmp_path / "sae")
    while not (tmp_path / "sae" / "metrics.jsonl").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in (128 + signal.SIGHUP, 128 + signal.SIGINT)
    assert not temporary(tmp_path)


def test_what_a_killed_program_left_is_removed(drivers, wide_gguf, tiny_gguf, tmp_path):
    process = start(drivers, "vyx-import", wide_gguf, "--out", tmp_path / "m.pt")
    wait_for_temporary(process, tmp_path, 1 << 20)
    process.kill()
    process.wait()
    left, = temporary(tmp_path)
    result = drivers.run("vyx-import", tiny_gguf, "--out", tmp_path / "m.pt")
    assert result.returncode == 0
    assert str(left) in result.stderr and "removed" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m.pt"]


def test_a_closed_stdout_is_a_failure_and_no_file_takes_its_place(drivers, tiny_gguf, tmp_path):
    result = subprocess.run(
        [str(drivers.folder / "vyx-import"),
         str(tiny_gguf), "--out",
         str(tmp_path / "m.pt")], stderr=subprocess.PIPE, text=True, preexec_fn=lambda: os.close(1))
    assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
    torch.jit.load(tmp_path / "m.pt")  # what it had written is whole
