"""The formats of apps/data/README.md: its examples are read as they stand there, and --help points
to them."""

import json
import pathlib
import re

import pytest

from conftest import write_sae

ROOT = pathlib.Path(__file__).resolve().parents[3]
README = (ROOT / "apps/data/README.md").read_text()
EXAMPLES = dict(re.findall(r"^```(\S+\.\w+)\n(.*?)^```$", README, re.M | re.S))


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats")
    for name, content in EXAMPLES.items():
        (folder / name).write_text(content)
    (folder / "beginnings.txt").write_text("I think that\nToday\n")
    return folder


def test_every_section_but_those_that_say_where_has_an_example():
    sections = re.findall(r"^## (.*)$", README, re.M)
    assert len(EXAMPLES) == 6 and sections == [
        "Contrast pairs", "Template", "Held-out pairs", "Choices", "Neutral text", "Text",
        "Tensors", "Experiments"
    ]


def test_contrast_pairs_and_templates(drivers, tiny_model, examples, tmp_path):
    for option, name, pairs in (("--contrast", "contrast.jsonl", 2), ("--template", "template.json",
                                                                      4)):
        report = drivers.json("vyx-vector", "--model", tiny_model, option, examples / name,
                              "--method", "mean", "--out", tmp_path / "v.gguf")
        assert report["pairs"] == pairs


def test_held_out_pairs_and_neutral_text(drivers, tiny_model, tiny_vector, examples):
    report = drivers.json("vyx-sweep", "--model", tiny_model, "--vector", tiny_vector, "--heldout",
                          examples / "heldout.jsonl", "--neutral", examples / "neutral.txt",
                          "--coefficients", 1)
    assert len(report["rows"]) == 3


def test_text(drivers, tiny_model, examples, tmp_path):
    report = drivers.json("vyx-harvest", "--model", tiny_model, "--text", examples / "text.jsonl",
                          "--sites", "model.layers.1", "--tokens", 20, "--out", tmp_path / "store")
    assert report["rows"] == 20 and report["input"]["counts"]["documents"] == 2


def compare(drivers, model, examples, tmp_path, choices):
    """The error of a comparison of too few pairs, which is found after all files were read."""
    sae = tmp_path / "sae"
    if not sae.exists():
        write_sae(sae)
    return drivers.error("vyx-compare", "--model", model, "--contrast", examples / "contrast.jsonl",
                         "--heldout", examples / "heldout.jsonl", "--neutral",
                         examples / "neutral.txt", "--ood", examples / "heldout.jsonl", "--other",
                         examples / "heldout.jsonl", "--choices", choices, "--sae", sae, "--out",
                         tmp_path / "out", "--quiet")


def test_choices(drivers, tiny_model, examples, tmp_path):
    assert "found 2 groups that differ" in compare(drivers, tiny_model, examples, tmp_path,
                                                   examples / "choices.jsonl")
    first = json.loads(EXAMPLES["choices.jsonl"].splitlines()[0])
    for key in first:
        less = tmp_path / "less"
        less.write_text(json.dumps({k: v for k, v in first.items() if k != key}))
        line = compare(drivers, tiny_model, examples, tmp_path, less)
        assert "less:1: " in line and f'"{key}"' in line


# What the tables say is required is missed, and named.
@pytest.mark.parametrize("name", ["contrast.jsonl", "heldout.jsonl", "template.json"])
def test_every_key_of_the_tables_is_required(drivers, tiny_model, tiny_vector, examples, tmp_path,
                                             name):
    content = EXAMPLES[name]
    first = json.loads(content if name.endswith(".json") else content.splitlines()[0])
    args = {
        "contrast.jsonl": ("vyx-vector", "--out", tmp_path / "v.gguf", "--contrast"),
        "template.json": ("vyx-vector", "--out", tmp_path / "v.gguf", "--template"),
        "heldout.jsonl":
        ("vyx-sweep", "--vector", tiny_vector, "--neutral", examples / "neutral.txt", "--heldout")
    }[name]
    for key in first:
        (examples / "less").write_text(
            json.dumps({
                other: value
                for other, value in first.items() if other != key
            }))
        line = drivers.error(args[0], "--model", tiny_model, *args[1:], examples / "less")
        assert f'"{key}"' in line and "less" in line


# Options that take a file which a user writes, and the section about it.
WRITTEN = {
    "contrast": "Contrast pairs",
    "template": "Template",
    "heldout": "Held-out pairs",
    "choices": "Choices",
    "neutral": "Neutral text",
    "text": "Text",
    "inputs": "Tensors"
}


def test_help_points_to_the_section(drivers):
    seen = set()
    for driver in drivers.names():
        for option in drivers.describe(driver)["options"]:
            if option["name"] in WRITTEN:
                seen.add(option["name"])
                assert "apps/data/README.md" in option["help"], (driver, option["name"])
                section = README.split(f"## {WRITTEN[option['name']]}\n")[1].split("\n## ")[0]
                assert f"`--{option['name']}`" in section, option["name"]
                assert driver in section, (driver, option["name"])
    assert seen == set(WRITTEN)
