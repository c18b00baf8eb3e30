"""What READMEs and the demo's last lines promise: their commands have options that exist, and
README.md's Python runs."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[3]


def commands(text):
    """Each `vyx-driver --option …` of a README: the driver and its options."""
    for driver, rest in re.findall(r"(?m)(?:^|[`$] ?)(vyx-[a-z-]+)( [^`\n]*)",
                                   text.replace("\\\n", " ")):
        yield driver, re.findall(r"(?<!\S)--([a-z][a-z0-9-]*)", rest)


ROOMS = ("core", "models", "steering", "sae", "apps", "tests", "third_party")
PAGES = [ROOT / "README.md", ROOT / "apps" / "demo.py"]
PAGES += [page for room in ROOMS for page in (ROOT / room).rglob("README.md")]
TEXTS = sorted(page for page in PAGES if any(asked for _, asked in commands(page.read_text())))

COMMON = {"help", "version", "json", "quiet", "seed", "threads", "device"}


@pytest.fixture(scope="module")
def options():
    """options(drivers, driver): the names of a driver's options, asked for once."""
    known = {}

    def of(drivers, driver):
        if driver not in known:
            described = drivers.json(driver, "--help")["options"]
            known[driver] = COMMON | {option["name"] for option in described}
        return known[driver]

    return of


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_have_options_that_exist(drivers, options, text):
    for driver, asked in commands(text.read_text()):
        for option in asked:
            assert option in options(drivers, driver), f"{driver} has no --{option}"


def test_the_door_shows_every_driver():
    named = {driver for driver, _ in commands((ROOT / "README.md").read_text())}
    sources = (ROOT / "apps" / "drivers").glob("vyx_*.cpp")
    assert named == {path.stem.replace("_", "-") for path in sources}


def test_python_of_the_door_runs(drivers, tiny_model, tiny_vector, tmp_path):
    folder = tmp_path / "out" / "demo"
    folder.mkdir(parents=True)
    drivers.json("vyx-export", "--model", tiny_model, "--vector", tiny_vector, "--out",
                 folder / "steered.pt")
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```", (ROOT / "README.md").read_text())
    assert blocks
    for block in blocks:
        result = subprocess.run([sys.executable, "-W", "ignore", "-c", block], cwd=tmp_path,
                                capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert [line.split()[0] for line in result.stdout.splitlines()] == ["-4.0", "0.0", "4.0"]
