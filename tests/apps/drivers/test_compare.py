"""vyx-compare on a tiny model: the report, its page, and input that cannot be."""

import csv
import json
import pathlib
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

WIDTH, LATENTS = 32, 48  # of conftest.py's model

HELDOUT = [{
    "prompt": f"How is {thing}?",
    "positive": f"I am glad about {thing}",
    "negative": f"I am sad about {thing}"
} for thing in ("it", "rain", "work", "the cat", "home", "today", "bread", "music")]
OOD = [{
    "prompt": f"Dear {name},",
    "positive": "what bliss this is!",
    "negative": "what grief this is."
} for name in ("Ann", "Tom", "Eve")]
OOD.append(HELDOUT[0])  # to be left out
CHOICES = [{
    "question": f"What comes after {n}?",
    "choices": [str(n + 1), str(n + 2), str(n - 1)][:2 + n % 2],
    "answer": 0
} for n in range(1, 9)]
CANAL = "A canal is an artificial waterway that carries boats between rivers, lakes and towns. "
NEUTRAL = CANAL * 4


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, tiny_model, tiny_pairs):
    folder = tmp_path_factory.mktemp("compare")
    (folder / "heldout.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in HELDOUT))
    (folder / "foreign_heldout.jsonl").write_text("".join(
        json.dumps({
            **pair, "positive": pair["positive"].upper()
        }) + "\n" for pair in HELDOUT))
    (folder / "ood.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in OOD))
    (folder / "choices.jsonl").write_text("".join(json.dumps(item) + "\n" for item in CHOICES))
    (folder / "neutral.txt").write_text(NEUTRAL)
    random = np.random.default_rng(1)
    decoder = random.standard_normal((LATENTS, WIDTH)).astype(np.float32)
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    sae = folder / "sae"
    sae.mkdir()
    save_file(
        {
            "W_enc": np.ascontiguousarray(decoder.T),
            "W_dec": decoder,
            "b_enc": np.zeros(LATENTS, np.float32),
            "b_dec": np.zeros(WIDTH, np.float32)
        }, str(sae / "sae_weights.safetensors"))
    (sae / "cfg.json").write_text(
        json.dumps({
            "architecture": "topk",
            "k": 6,
            "d_in": WIDTH,
            "d_sae": LATENTS,
            "dtype": "float32",
            "metadata": {
                "hook_name": "blocks.1.hook_resid_post"
            }
        }))
    return {
        "--model": tiny_model,
        "--contrast": tiny_pairs,
        "--heldout": folder / "heldout.jsonl",
        "--sae": sae,
        "--neutral": folder / "neutral.txt",
        "--nulls": 1,
        "--best-k": 2,
        "--candidates": 3,
        "--neutral-tokens": 256,
        "--sample-tokens": 6,
        "--bootstrap": 200,
        "--instruction": "Be <b>glad</b>.",
        "--other": folder / "foreign_heldout.jsonl",
        "--ood": folder / "ood.jsonl",
        "--choices": folder / "choices.jsonl"
    }


def arguments(inputs, **changes):
    values = {**inputs, **{"--" + key.replace("_", "-"): value for key, value in changes.items()}}
    return [part for name, value in values.items() if value is not None for part in (name, value)]


@pytest.fixture(scope="module")
def report(drivers, inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "out"
    drivers.json("vyx-compare", *arguments(inputs), "--out", out)
    return out


def test_the_report_has_every_method_and_level(report):
    found = json.loads((report / "compare.json").read_text())
    names = [method["name"] for method in found["methods"]]
    assert names == [
        "pca-center", "pca-diff", "mean", "logistic", "best single latent", "best k latents",
        "random direction", "mean of foreign"
    ]
    assert [method["name"] for method in found["methods"]
            if method["control"]] == ["random direction", "mean of foreign"]
    for method in found["methods"]:
        assert [level["level"] for level in method["levels"]] == [0.1, 0.3, 1]
        for level in method["levels"]:
            assert len(level["shifts"]) == found["test_items"]
            assert level["effect"] == pytest.approx(np.mean(level["shifts"]))
            assert level["interval"][0] <= level["effect"] <= level["interval"][1]
            if level["reached"]:
                assert level["selection"]["kl_p95"] == pytest.approx(level["level"], rel=0.26)
                assert level["side_effect"]["kl_p95"] == pytest.approx(level["level"], rel=1e-6)
    cosines = np.array(found["cosines"])
    assert np.allclose(np.diag(cosines), 1, atol=1e-6) and np.allclose(cosines, cosines.T)
    for split in ("extraction", "selection", "test"):
        assert re.fullmatch("[0-9a-f]{64}", found["provenance"]["contrast"][split]["sha256"])
    assert found["prompt"]["instruction"] == "Be <b>glad</b>."
    rows = list(csv.DictReader((report / "compare.csv").open()))
    assert len(rows) == 3 * len(names)
    assert float(rows[0]["effect"]) == found["methods"][0]["levels"][0]["effect"]


def test_a_null_has_as_many_draws_as_asked_and_says_what_it_cannot_show(report):
    found = json.loads((report / "compare.json").read_text())
    nulls = {
        method["name"]: [null["name"] for null in method["nulls"]]
        for method in found["methods"]
    }
    line = ["rotation", "foreign contrast sets", "covariance-matched vectors"]
    assert nulls["pca-center"] == nulls["pca-diff"] == line
    assert nulls["mean"] == line[:1] + ["swapped sides"] + line[1:]
    assert nulls["best single latent"] == ["rotation"]
    assert nulls["random direction"] == nulls["mean of foreign"] == []
    assert all(
        len(null["draws"]) == 1 and null["p"] in (0.5,
                                                  1) and null["replaces"] and null["hypothesis"]
        for method in found["methods"] for null in method["nulls"])
    assert found["global_null"]["draws"] == 1
    assert any("no p below 0.5000" in note for note in found["notes"])


def test_another_template_is_measured_without_what_repeats_the_held_out_pairs(report):
    found = json.loads((report / "compare.json").read_text())
    assert found["ood_items"] == 3
    assert found["provenance"]["ood"]["left_out_as_duplicates"] == 1
    assert any("1 of 4 pairs were left out" in note for note in found["notes"])
    for method in found["methods"]:
        assert len(method["ood"]["shifts"]) == 3
        assert method["ood"]["effect"] == pytest.approx(np.mean(method["ood"]["shifts"]))
        assert method["ood"]["interval"][0] <= method["ood"]["effect"] <= method["ood"]["interval"][
            1]


def test_the_choice_benchmark_has_the_accuracy_of_each_method_and_its_change(report):
    found = json.loads((report / "compare.json").read_text())
    before = found["choices"]
    assert before["items"] == 8 and before["chance"] == pytest.approx((4 / 2 + 4 / 3) / 8)
    for method in found["methods"]:
        assert method["choices"]["change"] == pytest.approx(method["choices"]["accuracy"] -
                                                            before["accuracy"])
        assert method["choices"]["interval"][0] <= method["choices"]["change"] <= method["choices"][
            "interval"][1]
    rows = {row["method"]: row for row in csv.DictReader((report / "compare.csv").open())}
    assert float(rows["mean"]["choice_accuracy"]) == found["methods"][2]["choices"]["accuracy"]
    assert float(rows["mean"]["ood_effect"]) == found["methods"][2]["ood"]["effect"]
    assert rows["mean of foreign"]["control"] == "true" and rows["mean"]["control"] == "false"
    details = [line["detail"] for line in found["rules"] if "choice benchmark" in line["rule"]]
    assert len(details) == 6 and not any(detail == "not measured" for detail in details)


def test_foreign_vectors_are_controls_that_every_method_is_compared_with(report):
    found = json.loads((report / "compare.json").read_text())
    methods = {method["name"]: method for method in found["methods"]}
    foreign = methods["mean of foreign"]
    assert foreign["nulls"] == [] and foreign["gain_over_foreign"] == []
    assert not [
        line for line in found["rules"] if line["method"] in ("mean of foreign", "random direction")
    ]
    assert methods["mean"]["gain_over_mean"] is None
    assert methods["logistic"]["gain_over_mean"]["over"] == "mean"
    gain, = methods["mean"]["gain_over_foreign"]
    shifts = np.subtract(methods["mean"]["levels"][1]["shifts"], foreign["levels"][1]["shifts"])
    assert gain["over"] == "mean of foreign" and gain["difference"] == pytest.approx(shifts.mean())
    assert gain["interval"] == [None, None]  # 4 items: too few for one
    assert 0.1 < gain["p"] <= 1


def test_what_is_not_given_is_not_measured(drivers, inputs, tmp_path):
    found = drivers.json("vyx-compare",
                         *arguments(inputs, ood=None, choices=None, other=None, nulls=0, kl="0.3"),
                         "--out", tmp_path)
    assert found["ood_items"] == 0 and found["choices"] is None
    rules = ("moves the concept more than any foreign", "keeps at least half",
             "accuracy loss on the choice benchmark")
    lines = [line for line in found["rules"] if line["rule"].startswith(rules)]
    assert len(lines) == 3 * 6 and all(line["passed"] is None and line["detail"] == "not measured"
                                       for line in lines)
    page = (tmp_path / "compare.html").read_text()
    assert "No other template was given" in page and "No choice benchmark was given" in page


def test_the_same_seed_gives_the_same_bytes(drivers, inputs, report, tmp_path):
    drivers.json("vyx-compare", *arguments(inputs), "--out", tmp_path)
    for name in ("compare.json", "compare.csv", "compare.html", "draws.json"):
        assert (tmp_path / name).read_bytes() == (report / name).read_bytes(), name


def test_a_comparison_that_was_killed_goes_on_to_the_same_bytes(drivers, inputs, report, tmp_path):
    shutil.copytree(report, tmp_path / "again")
    kept = json.loads((report / "draws.json").read_text())
    for name in ("compare.json", "compare.csv", "compare.html"):
        (tmp_path / "again" / name).unlink()
    kept["draws"] = kept["draws"][::2]  # what was there when it was killed
    (tmp_path / "again" / "draws.json").write_text(json.dumps(kept))
    messages = drivers.run("vyx-compare", *arguments(inputs), "--out", tmp_path / "again").stderr
    assert f"draws.json: goes on from {len(kept['draws'])} draws" in messages
    for name in ("compare.json", "compare.csv", "compare.html", "draws.json"):
        assert (tmp_path / "again" / name).read_bytes() == (report / name).read_bytes(), name


def test_draws_of_other_inputs_are_not_mixed_in(drivers, inputs, report, tmp_path):
    (tmp_path / "draws.json").write_bytes((report / "draws.json").read_bytes())
    messages = drivers.run("vyx-compare", *arguments(inputs, best_k=1), "--out", tmp_path).stderr
    assert "drawn anew: they are of other inputs or options" in messages
    kept = [json.loads((folder / "draws.json").read_text()) for folder in (report, tmp_path)]
    assert kept[0]["digest"] != kept[1]["digest"]


def test_no_draw_of_a_null_is_the_concept(drivers, tmp_path):
    found = drivers.json("vyx-compare", "--synthetic", "--nulls", 19, "--out", tmp_path)
    assert found["global_null"]["p"] == pytest.approx(0.05)


def test_the_page_stands_alone(report):
    page = (report / "compare.html").read_text()
    assert "default-src 'none'; style-src 'sha256-" in page
    assert not any(part in page for part in ("<script", " style=", "http:", "https:"))
    assert "Be <b>" not in page and "Be &lt;b&gt;glad" in page


def test_the_page_draws_the_numbers_of_the_report(report, open_page):
    found = json.loads((report / "compare.json").read_text())
    text = open_page(report / "compare.html")
    figure = text[text.index("Effect at a KL of 0.3 nats"):]
    figure = figure[:figure.index("</figure>")]
    drawn = dict(re.findall(r"<circle class=\"dot\"[^>]*><title>(.*?): (\S+) \[", figure))
    for method in found["methods"]:
        level = method["levels"][1]
        name = method["name"] + ("" if level["reached"] else " (level not reached)")
        assert float(drawn[name]) == pytest.approx(level["effect"], rel=1e-3, abs=1e-4), name
    assert figure.count("class=\"dot\"") == len(found["methods"]) + 1  # and the prompt


def test_the_page_draws_what_holds_elsewhere(report, open_page):
    found = json.loads((report / "compare.json").read_text())
    text = open_page(report / "compare.html")

    def drawn(title):
        figure = text[text.index(title):]
        figure = figure[:figure.index("</figure>")]
        return {
            name: float(value)
            for name, value in re.findall(r"<circle class=\"dot\"[^>]*><title>(.*?): (\S+) \[",
                                          figure)
        }

    elsewhere, kept = drawn("Effect on another template"), drawn(
        "Change of accuracy on the choice benchmark")
    assert len(elsewhere) == len(kept) == len(found["methods"])
    for method in found["methods"]:
        name = method["name"] + (" (control)" if method["control"] else "")
        assert elsewhere[name] == pytest.approx(method["ood"]["effect"], rel=1e-3, abs=1e-4), name
        assert kept[name] == pytest.approx(100 * method["choices"]["change"], rel=1e-3,
                                           abs=1e-3), name


def test_the_synthetic_model_shows_which_method_moves_the_neighbour(drivers, tmp_path):
    found = drivers.json("vyx-compare", "--synthetic", "--nulls", 0, "--best-k", 3, "--candidates",
                         4, "--out", tmp_path)
    methods = {method["name"]: method for method in found["methods"]}

    def shift(name):
        return {other["name"]: other["shift"] for other in methods[name]["others"]}["the neighbour"]

    assert methods["best single latent"]["latents"] == [0]
    assert shift("pca-center") > 0.5 * methods["pca-center"]["levels"][1]["effect"]
    assert abs(
        shift("best single latent")) < 0.05 * methods["best single latent"]["levels"][1]["effect"]
    assert pathlib.Path(found["page"]).exists()


@pytest.mark.parametrize("changes, code, parts", [
    ({
        "contrast": None
    }, 2, ["expected one of --contrast and --template"]),
    ({
        "sae": None
    }, 2, ["expected --sae, or --synthetic"]),
    ({
        "kl": "0.1,x"
    }, 2, ["'x' is not a finite number"]),
    ({
        "kl": "0.1,0.5"
    }, 2, ["headline's KL level is 0.3"]),
    ({
        "best_k": 5
    }, 2, ["--best-k from 1 to --candidates"]),
    ({
        "nulls": -1
    }, 2, ["-1 nulls"]),
    ({
        "site": "model.layers.*"
    }, 1, ["model.layers.*:output, which the model has not"]),
    ({
        "site": "model.layers.9"
    }, 1, ["model.layers.9"]),
    ({
        "neutral": "/dev/null"
    }, 1, ["/dev/null"]),
    ({
        "sae": "/nowhere"
    }, 1, ["/nowhere"]),
    ({
        "ood": "/nowhere"
    }, 1, ["/nowhere"]),
    ({
        "choices": "/nowhere"
    }, 1, ["/nowhere"]),
])
def test_bad_input_is_one_line_and_leaves_no_report(drivers, inputs, tmp_path, changes, code,
                                                    parts):
    message = drivers.error("vyx-compare", *arguments(inputs, **changes), "--out", tmp_path / "out",
                            "--quiet", code=code)
    for part in parts:
        assert part in message
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_too_few_pairs_to_split_are_named(drivers, inputs, tmp_path):
    few = tmp_path / "few.jsonl"
    few.write_text('{"positive": "I am glad", "negative": "I am sad"}\n' * 5)
    message = drivers.error("vyx-compare", *arguments(inputs, contrast=few), "--out",
                            tmp_path / "out", "--quiet")
    assert "few.jsonl: found 1 groups that differ, expected at least 4" in message


def test_another_template_that_repeats_the_held_out_pairs_is_refused(drivers, inputs, tmp_path):
    message = drivers.error("vyx-compare", *arguments(inputs, ood=inputs["--heldout"]), "--out",
                            tmp_path / "out", "--quiet")
    assert "8 pairs that all nearly repeat those of" in message
    assert "expected another template" in message
    assert not list((tmp_path / "out").glob("*"))
