"""README's C++ programs, as they stand there: built with its CMakeLists.txt, and run on the real
model and on files with the names that `./vyx demo` gives them."""

import os
import pathlib
import re
import shlex

import pytest
from conftest import BUILD, CMAKE, ROOT, configure, run

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
PROGRAMS = {
    re.match(r"// (\S+\.cpp): ", text)[1]: text
    for language, text in BLOCKS if language == "cpp"
}
TOKENS = 1000  # enough for an autoencoder of the demo's size, which learns nothing from them


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A repository's root after `./vyx demo`, as far as the examples need one."""
    gguf = pathlib.Path(os.environ["VYX_MODEL_GGUF"])
    if not gguf.is_file():
        pytest.skip(f"{gguf}: not there; run ./vyx test or set VYX_MODEL_GGUF")
    folder = tmp_path_factory.mktemp("readme")
    (folder / "apps").symlink_to(ROOT / "apps")
    demo = folder / "out/demo"
    demo.mkdir(parents=True)
    for command in (f"vyx-import {gguf} --out smollm2.pt",
                    f"vyx-harvest --model smollm2.pt --text {ROOT}/apps/data/neutral.txt"
                    f" --sites model.layers.14 --tokens {TOKENS} --out store",
                    "vyx-sae-train --activations store --architecture topk --latents 4608 --k 32"
                    f" --batch 500 --tokens {TOKENS} --out sae"):
        run(*driver(command), cwd=demo)
    return folder


def driver(command):
    words = shlex.split(command)
    return [BUILD / "bin" / words[0], *words[1:]]


@pytest.fixture(scope="module")
def programs(prefix):
    """README's project, built."""
    source = BUILD / "readme"
    source.mkdir(exist_ok=True)
    [lists] = [text for language, text in BLOCKS if language == "cmake"]
    (source / "CMakeLists.txt").write_text(lists)
    for name, text in PROGRAMS.items():
        (source / name).write_text(text)
    configure(source, source / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    run(CMAKE, "--build", source / "build", "-j", 2)
    return source / "build"


@pytest.mark.parametrize(
    "name, says", [("steer.cpp", r"\w+ \w+ \w+"),
                   ("latents.cpp", r"\d+ latents fire; error \d+\.\d+, v \d+\.\d+\n.*\w+ \w+")])
def test_a_program_in_readme_builds_and_runs(programs, folder, name, says):
    assert re.search(says, run(programs / pathlib.Path(name).stem, cwd=folder))


def test_no_program_in_readme_is_left_out():
    assert sorted(PROGRAMS) == ["latents.cpp", "steer.cpp"]
    assert sum(language == "cpp" for language, text in BLOCKS) == len(PROGRAMS)
