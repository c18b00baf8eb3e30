"""What the tests of the installed tree share. VYX_BUILD is the build folder. Consumers' build
folders stay in it, so that a second run compiles little."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("VYX_BUILD", ROOT / "build/release")).resolve()
CMAKE = os.environ.get("VYX_CMAKE", "cmake")


def run(*command, code=0, **options):
    """What a command says, once it has ended with `code`."""
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=1800,
                            **options)
    said = result.stdout + result.stderr
    assert result.returncode == code, f"{command}\n{said[-8000:]}"
    return said


def configure(source, build, *definitions, code=0):
    return run(CMAKE, "-S", source, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug",
               "-DCMAKE_CXX_FLAGS_DEBUG=-O0", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", *definitions,
               code=code)


@pytest.fixture(scope="session")
def prefix():
    """A folder that vyx is installed in."""
    folder = BUILD / "installed"
    shutil.rmtree(folder, ignore_errors=True)
    run(CMAKE, "--install", BUILD, "--prefix", folder)
    return folder
