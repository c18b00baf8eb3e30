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
