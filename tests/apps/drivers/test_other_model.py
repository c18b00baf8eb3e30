"""An autoencoder of another model is refused by every driver that takes one, in the same words."""

import json

import pytest

from conftest import write_sae

CONTINUATION = {"prompt": "I feel", "positive": " glad", "negative": " sad"}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    folder = write_sae(tmp_path_factory.mktemp("foreign") / "sae")
    config = json.loads((folder / "cfg.json").read_text())
    config["metadata"]["activations"] = {"model": "Other", "model_sha256": "a" * 64}
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def commands(drivers, tiny_model, tiny_pairs, text, tmp_path_factory):
    """By driver: what it is told beside --sae."""
    folder = tmp_path_factory.mktemp("other")
    drivers.json("vyx-harvest", "--model", tiny_model, "--text", text, "--sites",
                 "model.layers.1:output", "--tokens", 600, "--out", folder / "store")
    heldout = folder / "heldout.jsonl"
    heldout.write_text("".join(
        json.dumps(CONTINUATION | {"prompt": f"{n} I feel"}) + "\n" for n in range(8)))
    model = ("--model", tiny_model)
    return {
        "vyx-generate": [(*model, "--prompt", "I", "--max-tokens", 2, "--latent", "1=2")],
        "vyx-export": [(*model, "--latent", "1=2", "--out", folder / "out.pt")],
        "vyx-implicit": [(*model, "--text", text, "--latent", "1=2", "--tokens", 100, "--out",
                          folder / "out.safetensors")],
        "vyx-latents": [(*model, "--contrast", tiny_pairs)],
        "vyx-compare": [(*model, "--contrast", tiny_pairs, "--heldout", heldout, "--neutral", text,
                         "--out", folder / "compare")],
        "vyx-sae-eval": [("--activations", folder / "store"),
                         (*model, "--text", text, "--tokens", 100)],
        "vyx-sweep": [(*model, "--heldout", heldout, "--neutral", text, "--latent", "1=2")],
    }


def test_every_driver_that_takes_an_autoencoder_is_here(drivers, commands):
    takes = {
        driver
        for driver in drivers.names()
        if "sae" in {option["name"]
                     for option in drivers.describe(driver)["options"]}
    }
    assert takes <= set(commands)


def test_an_autoencoder_of_another_model_is_refused_in_the_same_words(drivers, commands, foreign):
    for driver, given in commands.items():
        if "sae" not in {option["name"] for option in drivers.describe(driver)["options"]}:
            continue
        for arguments in given:
            line = drivers.error(driver, "--sae", foreign, *arguments)
            assert "was trained on model Other (sha256 aaaaaaaaaaaa…), this is Tiny 0 (" in line
            assert "; take its own model, or pass --allow-other-model" in line, driver


def test_it_may_be_allowed(drivers, commands, foreign):
    for driver in ("vyx-generate", "vyx-export", "vyx-implicit", "vyx-sae-eval"):
        for arguments in commands[driver]:
            drivers.json(driver, "--sae", foreign, *arguments, "--allow-other-model")
