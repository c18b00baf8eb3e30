"""vyx as a library: what `cmake --install` gives runs and links from anywhere."""

import json
import os
import shutil

import pytest
from conftest import BUILD, CMAKE, ROOT, configure, run

TORCH = os.environ["VYX_TORCH_DIR"]


def build_consumer(build, *definitions):
    configure(ROOT / "tests/consumer", build, *definitions)
    run(CMAKE, "--build", build, "-j", 2)
    said = run("./consumer", cwd=build)
    assert "block:output is 16" in said and "edited to 40; baked: the same" in said
    [line] = [
        entry["command"] for entry in json.loads((build / "compile_commands.json").read_text())
        if entry["file"].endswith("consumer.cpp")
    ]
    assert "-std=gnu++20" in line and "FMT_HEADER_ONLY" in line
    assert " -W" not in line, "our warnings are not a consumer's"


def test_an_installed_driver_runs_from_any_folder(prefix):
    drivers = sorted((prefix / "bin").iterdir())
    assert [driver.name for driver in drivers] == sorted(p.name for p in BUILD.glob("bin/vyx-*"))
    for driver in drivers:
        assert run(driver, "--version", cwd="/", env={}).startswith(f"{driver.name} ")
    assert "usage: vyx-inspect" in run(prefix / "bin/vyx-inspect", "--help", cwd="/", env={})


def test_a_project_finds_what_is_installed(prefix):
    build_consumer(BUILD / "consumer-installed", f"-DCMAKE_PREFIX_PATH={prefix}")


def test_nothing_installed_names_where_it_was_built_from(prefix):
    for file in (prefix / "lib/cmake/vyx").iterdir():
        text = file.read_text().replace(TORCH, "")
        assert str(ROOT) not in text, file


def test_a_project_has_vyx_as_a_folder_of_its_own():
    build_consumer(BUILD / "consumer-subdirectory", f"-DVYX_SOURCE={ROOT}", "-DVYX_UNITY=ON",
                   f"-DTorch_DIR={TORCH}")


@pytest.fixture(scope="module")
def refused(prefix):
    """refused(definitions…): what find_package(vyx) says to a project that cannot have it."""
    build = BUILD / "consumer-refused"
    shutil.rmtree(build, ignore_errors=True)
    configure(ROOT / "tests/consumer", build, f"-DCMAKE_PREFIX_PATH={prefix}")

    def configured(*definitions):
        forgotten = ("-U", "CMAKE_DISABLE_FIND_PACKAGE_*", "-U", "Torch_DIR")
        said = configure(ROOT / "tests/consumer", build, *forgotten, *definitions, code=1)
        return " ".join(said.split())

    return configured


@pytest.mark.parametrize("package", ["Torch", "fmt", "PkgConfig"])
def test_a_dependency_that_is_missing_is_named(refused, package):
    said = refused(f"-DCMAKE_DISABLE_FIND_PACKAGE_{package}=ON")
    assert f"vyx needs {package}, which was not found: " in said


def test_another_libtorch_than_that_of_the_build_is_refused(refused, prefix, tmp_path):
    other = tmp_path / "share/cmake/Torch"
    other.mkdir(parents=True)
    (other / "TorchConfig.cmake").write_text("set(Torch_FOUND TRUE)\n")
    (other / "TorchConfigVersion.cmake").write_text('set(PACKAGE_VERSION "1.0.0")\n')
    said = refused(f"-DCMAKE_PREFIX_PATH={prefix};{tmp_path}")
    assert "vyx was built with LibTorch" in said and "has 1.0.0" in said
