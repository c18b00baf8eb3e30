"""What the parity tests share. VYX_BIN is the folder of the binaries, VYX_MODEL_GGUF the real
model; both default to where `./vyx` puts them."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def bin_dir():
    folder = Path(os.environ.get("VYX_BIN", ROOT / "build/release/bin")).resolve()
    assert folder.is_dir(), f"{folder}: not a folder; build vyx or set VYX_BIN"
    return folder


@pytest.fixture(scope="session")
def gguf_path():
    path = Path(os.environ.get("VYX_MODEL_GGUF", ROOT / ".deps/models/smollm2.gguf")).resolve()
    if not path.is_file():
        pytest.skip(f"{path}: not there; run ./vyx test or set VYX_MODEL_GGUF")
    return path


@pytest.fixture(scope="session")
def run(bin_dir):
    """run("vyx-inspect", path, …): the CompletedProcess, with stdout and stderr as bytes."""
    def call(binary, *args, **options):
        return subprocess.run([bin_dir / binary, *map(str, args)], capture_output=True, timeout=600,
                              **options)

    return call


@pytest.fixture(scope="session")
def model_path(bin_dir, run, gguf_path, tmp_path_factory):
    """The real model's archive, imported once, by way of the driver where it is built."""
    out = tmp_path_factory.mktemp("import") / "smollm2.pt"
    if (bin_dir / "vyx-import").is_file():
        result = run("vyx-import", gguf_path, "--out", out)
    else:
        result = run("parity-model", "import", gguf_path, out)
    assert result.returncode == 0, result.stderr.decode()
    return out
