"""Ablation runs: shared steps, failures that stay in their cells, kill -9, --verify, and experiment
files with mistakes."""

import csv
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import time

import pytest

from conftest import LAYERS

EXPERIMENT = """
title = "Method by coefficient"
[files]
model = "{model}"
pairs = "{pairs}"
heldout = "heldout.jsonl"
neutral = "neutral.txt"
[grid]
method = ["pca-center", "mean"]
coefficient = [1, 2]
seed = [0, 1]
[steps.vector]
driver = "vector"
options = {{model = "{{model}}", contrast = "{{pairs}}", method = "{{method}}", \
out = "vector{{seed}}.gguf"}}
[steps.sweep]
driver = "sweep"
options = {{model = "{{model}}", vector = "{{steps.vector.out}}", heldout = "{{heldout}}", \
neutral = "{{neutral}}", coefficients = "{{coefficient}}"}}
[results]
shift = "sweep.rows[coefficient={{coefficient}}].shift"
kl = "sweep.rows[coefficient={{coefficient}}].kl_mean"
[variants.small.grid]
method = ["mean"]
seed = [0]
"""


@pytest.fixture(scope="session")
def experiment(tiny_model, tiny_pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "heldout.jsonl").write_text("".join(
        json.dumps({
            "prompt": f"Today {thing}",
            "positive": " is good",
            "negative": " is bad"
        }) + "\n" for thing in ("it", "rain", "work")))
    (folder / "neutral.txt"
     ).write_text("The river flows to the sea, and the sea is deep.\n\nStones lie on the ground.\n")
    path = folder / "experiment.toml"
    path.write_text(EXPERIMENT.format(model=tiny_model, pairs=tiny_pairs))
    return path


def rows(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def finished(drivers, experiment, tmp_path_factory):
    """The run that no other may differ from."""
    out = tmp_path_factory.mktemp("finished") / "run"
    result = drivers.json("vyx-ablate", experiment, "--out", out)
    assert result["cells"] == result["done"] == 8 and result["failed"] == 0
    return out


def changed(experiment, tmp_path, *replacements):
    """A copy of the experiment, beside the files that it names, with some text replaced."""
    text = experiment.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    for name in ("heldout.jsonl", "neutral.txt"):
        shutil.copy(experiment.parent / name, tmp_path / name)
    path = tmp_path / "experiment.toml"
    path.write_text(text)
    return path


def test_the_drivers_list_their_options_as_json(drivers):
    listed = json.loads(drivers.run("vyx-sweep", "--help", "--json").stdout)
    options = {option["name"]: option for option in listed["options"]}
    assert listed["name"] == "vyx-sweep" and "help" not in options
    assert options["model"] == {
        "name": "model",
        "type": "text",
        "value": "FILE",
        "many": False,
        "required": True,
        "written": False,
        "help": "the archive of vyx-import"
    }
    assert options["coefficients"]["type"] == "number" and options["coefficients"]["many"]
    assert options["prompt"]["many"] and options["allow-other-model"]["type"] == "switch"
    assert options["seed"]["type"] == "integer" and options["seed"]["default"] == "0"
    assert float(options["max-kl"]["default"]) == 0.5 and options["max-kl"]["value"] == "NATS"


def test_a_row_a_cell_in_the_order_of_the_grid(drivers, finished):
    table = rows(finished)
    assert [row["cell"] for row in table] == list(range(8))
    assert [tuple(row["grid"].values()) for row in table] == [(m, c, s)
                                                              for m in ("pca-center", "mean")
                                                              for c in (1, 2) for s in (0, 1)]
    with open(finished / "results.csv", newline="") as file:
        read = list(csv.DictReader(file))
    for row, line in zip(table, read, strict=True):
        assert float(line["shift"]) == row["results"]["shift"] and float(
            line["kl"]) == row["results"]["kl"]
        assert line["method"] == row["grid"]["method"] and line["error"] == ""
    assert len({row["results"]["shift"] for row in table}) == 4  # the seed changes no direction


def test_a_cell_is_what_the_drivers_say_by_hand(drivers, finished, experiment, tiny_model,
                                                tiny_pairs, tmp_path):
    drivers.json("vyx-vector", "--model", tiny_model, "--contrast", tiny_pairs, "--method", "mean",
                 "--threads", 1, "--out", tmp_path / "v.gguf")
    swept = drivers.json("vyx-sweep", "--model", tiny_model, "--vector", tmp_path / "v.gguf",
                         "--heldout", experiment.parent / "heldout.jsonl", "--neutral",
                         experiment.parent / "neutral.txt", "--coefficients", 2, "--threads", 1)
    by_hand = next(row for row in swept["rows"] if row["coefficient"] == 2)
    row = next(row for row in rows(finished) if row["grid"] == {
        "method": "mean",
        "coefficient": 2,
        "seed": 0
    })
    assert row["results"] == {"shift": by_hand["shift"], "kl": by_hand["kl_mean"]}


def test_steps_are_shared_and_nothing_runs_twice(drivers, finished, experiment):
    steps = [path.name for path in (finished / "steps").iterdir()]
    assert sum(name.startswith("vector-")
               for name in steps) == 4  # method × seed, not × coefficient
    again = drivers.json("vyx-ablate", experiment, "--out", finished)
    assert again["steps_run"] == 0 and again["steps_found"] == len(steps)
    more = drivers.json("vyx-ablate", experiment, "--out", finished, "--dry-run")
    assert more["cells"] == 8 and len(more["steps"]) == len(steps)


def test_processes_at_a_time_change_no_bit(drivers, finished, experiment, tmp_path):
    drivers.json("vyx-ablate", experiment, "--out", tmp_path / "run", "--jobs", 3)
    for name in ("results.jsonl", "results.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()


def test_the_manifest_says_what_it_came_from(finished, tiny_model, tiny_pairs):
    import hashlib

    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["finished"] and manifest["cells"] == 8 and manifest["failed"] == 0
    assert manifest["inputs"][str(tiny_model)] == hashlib.sha256(
        tiny_model.read_bytes()).hexdigest()
    assert set(manifest["drivers"]) == {"vyx-vector", "vyx-sweep"}
    for name, digest in manifest["outputs"].items():
        assert hashlib.sha256((finished / name).read_bytes()).hexdigest() == digest, name
    assert {"results.jsonl", "results.csv", "index.html"} < set(manifest["outputs"])
    assert {"LibTorch", "fmt", "Boost", "toml++", "compiler"} <= set(manifest["packages"])
    assert manifest["experiments"][0]["threads"] == 1 and manifest["experiments"][0]["seeds"][
        "seed"] == [0, 1]
    assert manifest["experiments"][0]["experiment"]["grid"]["coefficient"] == [1, 2]
    assert manifest["commit"] and manifest["machine"]["cores"] >= 1
    assert "seconds" not in (finished / "results.jsonl").read_text()
    assert len((finished / "timings.jsonl").read_text().splitlines()) == len(
        list((finished / "steps").iterdir()))


def test_the_page_has_means_over_seeds_and_charts(finished, open_page):
    page = (finished / "index.html").read_text()
    assert open_page(finished / "index.html").count("<svg") == page.count("<svg")
    assert "Content-Security-Policy" in page and "<script" not in page
    values = [
        row["results"]["shift"] for row in rows(finished)
        if row["grid"]["method"] == "mean" and row["grid"]["coefficient"] == 2
    ]
    assert f"{statistics.fmean(values):.4f} ± 0.0000" in page
    assert page.count("<svg") == 2  # shift and KL over the coefficient, a curve per method


def test_a_cell_that_fails_is_recorded_and_the_rest_go_on(drivers, experiment, tmp_path):
    path = changed(experiment, tmp_path,
                   ('model = "{model}", contrast',
                    'sites = "model.layers.{layer}", model = "{model}", contrast'),
                   ("seed = [0, 1]", "layer = [1, 7]"), ("vector{seed}", "vector"))
    result = drivers.run("vyx-ablate", path, "--out", tmp_path / "run", "--json")
    assert result.returncode == 1 and json.loads(result.stdout)["failed"] == 4
    assert "4 of 8 cells failed" in result.stderr
    for row in rows(tmp_path / "run"):
        if row["grid"]["layer"] == 1:
            assert "results" in row
        else:
            assert row["error"].startswith(
                "vyx-vector: ") and "model.layers.7" in row["error"] and "\n" not in row["error"]
            assert str(tmp_path) not in row["error"]
    page = (tmp_path / "run" / "index.html").read_text()
    assert "Cells that failed" in page
    assert "Over coefficient" in page  # of the layers only one has results to draw
    assert drivers.json("vyx-ablate", "--verify", tmp_path / "run")["identical"]  # failures too
    # What failed is tried again, what succeeded is not.
    again = json.loads(drivers.run("vyx-ablate", path, "--out", tmp_path / "run", "--json").stdout)
    assert again["steps_found"] == 6 and again["steps_run"] == 2


def test_kills_at_random_moments_change_no_bit(drivers, finished, experiment, tmp_path):
    generator = random.Random(5)
    out = tmp_path / "run"
    kills = 0
    while True:
        process = subprocess.Popen(
            [str(drivers.folder / "vyx-ablate"),
             str(experiment), "--out",
             str(out), "--jobs", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            _, errors = process.communicate(timeout=generator.uniform(0.1, 0.5) + 0.3 * kills)
            assert process.returncode == 0, errors
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    assert kills >= 3
    for name in ("results.jsonl", "results.csv"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()
    assert not list(out.glob(".tmp-*"))


def test_killed_it_takes_its_drivers_along(drivers, experiment, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [str(drivers.folder / "vyx-ablate"),
         str(experiment), "--out",
         str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    end = time.monotonic() + 60
    started = []
    while not (started and list((out / "steps").glob("*/files"))):
        assert time.monotonic() < end
        started = open(children).read().split()
    process.kill()
    process.communicate()
    end = time.monotonic() + 10
    while any(
            os.path.exists(f"/proc/{child}")
            and open(f"/proc/{child}/stat").read().split()[2] != "Z" for child in started):
        assert time.monotonic() < end


@pytest.mark.parametrize("stop, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_cleanly_and_the_same_command_goes_on(drivers, finished, experiment,
                                                             tmp_path, stop, code):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [str(drivers.folder / "vyx-ablate"),
         str(experiment), "--out",
         str(out), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not list(out.glob("steps/*/step.json")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.005)
    process.send_signal(stop)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    result = json.loads(output)
    assert result["stopped"] and result["done"] < 8 and "the same command goes on" in errors
    assert not json.loads((out / "manifest.json").read_text())["finished"]
    assert "has not finished" in drivers.error("vyx-ablate", "--verify", out)
    drivers.json("vyx-ablate", experiment, "--out", out)
    assert (out / "results.jsonl").read_bytes() == (finished / "results.jsonl").read_bytes()


def test_verify_says_bit_identical_or_shows_the_first_cell_that_differs(
        drivers, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    result = drivers.json("vyx-ablate", "--verify", run)
    assert result["identical"] and result["cells"] == 8 and result["other_files"] == []
    assert "bit-identical in 8 cells" in drivers.run("vyx-ablate", "--verify", run, "--jobs",
                                                     2).stdout
    assert not list(tmp_path.glob("*.verify-*"))

    table = rows(run)
    value = table[5]["results"]["kl"]
    table[5]["results"]["kl"] = value + 1e-12
    (run / "results.jsonl").write_text("".join(
        json.dumps(row, separators=(",", ":")) + "\n" for row in table))
    result = drivers.run("vyx-ablate", "--verify", run)
    assert result.returncode == 1
    assert ("first in cell 5 (coefficient=1 method=mean seed=1): "
            f"results.kl was {value + 1e-12!r}, is {value!r} now") in result.stdout


def test_verify_finds_files_that_changed_since(drivers, finished, experiment, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    vector = next(run.glob("steps/vector-*/files/vector*.gguf"))
    data = bytearray(vector.read_bytes())
    data[-1] ^= 1
    vector.write_bytes(data)
    assert "its bytes are not those that the run wrote" in drivers.error(
        "vyx-ablate", "--verify", run)
    path = changed(experiment, tmp_path)
    own = tmp_path / "own"
    drivers.json("vyx-ablate", path, "--variant", "small", "--out", own)
    (tmp_path / "neutral.txt").write_text("other text\n")
    assert "neutral.txt: found SHA-256" in drivers.error("vyx-ablate", "--verify", own)


def templated(experiment, tmp_path):
    """The experiment with a template in the pairs' place, which names another file."""
    path = changed(experiment, tmp_path, ("[grid]", 'concept = "mood.json"\n[grid]'),
                   ('contrast = "{pairs}"', 'template = "{concept}"'),
                   ('seed = [0, 1]', 'seed = [0]'), ("coefficient = [1, 2]", "coefficient = [1]"),
                   ('["pca-center", "mean"]', '["mean"]'))
    (tmp_path / "mood.json").write_text(
        json.dumps({
            "prompt": "Act like a {persona} person.",
            "positive": ["glad"],
            "negative": ["sad"],
            "beginnings": "beginnings.txt"
        }))
    (tmp_path / "beginnings.txt").write_text("".join(f"Word {n}\n" for n in range(8)))
    return path


def test_a_file_that_an_input_names_counts_as_one(drivers, experiment, tmp_path):
    path, run = templated(experiment, tmp_path), tmp_path / "run"
    first = drivers.json("vyx-ablate", path, "--out", run)
    assert (first["steps_run"], first["failed"]) == (2, 0)
    inputs = json.loads((run / "manifest.json").read_text())["inputs"]
    assert str(tmp_path / "beginnings.txt") in inputs
    assert drivers.json("vyx-ablate", "--verify", run)["identical"]
    before = rows(run)
    (tmp_path / "beginnings.txt").write_text("".join(f"Over {n} hills\n" for n in range(8)))
    assert "beginnings.txt: found SHA-256" in drivers.error("vyx-ablate", "--verify", run)
    again = drivers.json("vyx-ablate", path, "--out", run)
    assert (again["steps_run"], again["steps_found"]) == (2, 0)
    assert rows(run) != before
    assert drivers.json("vyx-ablate", "--verify", run)["identical"]


def test_every_driver_says_which_files_it_read(drivers, experiment, tmp_path, tiny_model):
    templated(experiment, tmp_path)
    result = drivers.json("vyx-vector", "--model", tiny_model, "--template", tmp_path / "mood.json",
                          "--out", tmp_path / "v.gguf")
    read = {tmp_path / "mood.json", tmp_path / "beginnings.txt", tiny_model}
    assert result["files_read"] == sorted(map(str, read))


def test_verify_takes_where_inputs_lie_now_and_a_variant(drivers, experiment, tmp_path):
    (tmp_path / "then").mkdir()
    path = changed(
        experiment, tmp_path / "then",
        ("[variants.small.grid]",
         "[variants.other.grid]\nmethod = ['mean']\ncoefficient = [2]\n[variants.small.grid]"))
    run = tmp_path / "run"
    drivers.json("vyx-ablate", path, "--variant", "all", "--out", run)
    (tmp_path / "then").rename(tmp_path / "now")
    assert "no such file" in drivers.error("vyx-ablate", "--verify", run)
    at = [f"heldout={tmp_path}/now/heldout.jsonl", "--set", "neutral=now/neutral.txt"]
    command = ["--verify", run.name, "--set", *at]
    result = subprocess.run([str(drivers.folder / "vyx-ablate"), *command, "--json"],
                            capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["identical"] and json.loads(result.stdout)["cells"] == 4
    at = at[:2] + [f"neutral={tmp_path}/now/neutral.txt"]
    small = drivers.json("vyx-ablate", "--verify", run, "--set", *at, "--variant", "small")
    assert small["identical"] and small["cells"] == 2
    assert "has none of that name; did you mean small" in drivers.error(
        "vyx-ablate", "--verify", run, "--set", *at, "--variant", "smal", code=2)
    assert "a name in the run's [files]" in drivers.error("vyx-ablate", "--verify", run, "--set",
                                                          "coefficient=3", code=2)
    (tmp_path / "now" / "neutral.txt").write_text("other text\n")
    assert "neutral.txt: found SHA-256" in drivers.error("vyx-ablate", "--verify", run, "--set",
                                                         *at)
    assert "no other option" in drivers.error("vyx-ablate", "--verify", run, "--seed", 0, code=2)


def test_what_is_typed_goes_over_the_file(drivers, experiment, tmp_path):
    say = ('[steps.say]\ndriver = "generate"\n'
           'options = {model = "{model}", prompt = "x", temperature = 1}\n[results]\n'
           'text = "say.text"')
    path = changed(experiment, tmp_path, ("[files]", 'seed = 7\ndevice = "cuda"\n[files]'),
                   ("vector{seed}", "vector"), ("seed = [0, 1]", ""), ("[results]", say))

    def require(arguments, steps):
        """Given to every step, the seed to that which has a use for it."""
        assert len(steps) > 2
        for step in steps:
            random = "--prompt=x" in step["arguments"]
            expected = {word for word in arguments if random or not word.startswith("--seed")}
            assert expected <= set(step["arguments"])
            assert random == any(word.startswith("--seed") for word in step["arguments"])

    commands = lambda *more: drivers.json("vyx-ablate", path, "--out", tmp_path / "run",
                                          "--dry-run", *more)["steps"]
    require({"--seed=7", "--device=cuda", "--threads=1"}, commands())
    require({"--seed=0", "--device=cpu", "--threads=2"},
            commands("--seed", 0, "--device", "cpu", "--threads", 2))


def test_variants_and_settings(drivers, experiment, tmp_path):
    small = drivers.json("vyx-ablate", experiment, "--variant", "small", "--set", "coefficient=3",
                         "--out", tmp_path / "one")
    assert small["cells"] == 1 and rows(tmp_path / "one")[0]["grid"] == {
        "method": "mean",
        "coefficient": 3,
        "seed": 0
    }
    path = changed(
        experiment, tmp_path,
        ("[variants.small.grid]",
         "[variants.other.grid]\nmethod = ['mean']\ncoefficient = [2]\n[variants.small.grid]"))
    both = drivers.json("vyx-ablate", path, "--variant", "all", "--out", tmp_path / "all")
    assert both["cells"] == 4 and [row["variant"] for row in rows(tmp_path / "all")
                                   ] == ["other", "other", "small", "small"]
    assert both["steps_run"] == 2 + 3  # two vectors; coefficient 2 of seed 0 is in both variants


@pytest.mark.parametrize("old, new, message", [
    ("coefficients =", "coeficients =",
     "experiment.toml:17: steps.sweep: vyx-sweep has no option \"coeficients\"; "
     "did you mean coefficients?"),
    ('driver = "sweep"', 'driver = "sweeep"',
     "experiment.toml:16: steps.sweep: there is no driver \"sweeep\" beside this program; "
     "did you mean sweep?"),
    ("[results]", "[resultz]",
     "experiment.toml:18: no such key \"resultz\"; did you mean results?"),
    ('"{steps.vector.out}"', '"{steps.vector.ou}"', "did you mean out?"),
    ('out = "vector{seed}.gguf"', 'out = "../vector{seed}.gguf"',
     "expected a name in the step's own folder"),
    ('"heldout.jsonl"', '"nowhere.jsonl"', "nowhere.jsonl: no such file"),
    ("coefficient = [1, 2]", 'coefficient = [1, "two"]',
     "coefficients: found \"two\", expected a number"),
    ('"pca-center", "mean"', '"pca-center", "median"',
     "method: found \"median\", expected one of pca-center, pca-diff, mean, logistic"),
    ("[grid]", "[grid", "experiment.toml:8: "),
    ("coefficient = [1, 2]", "coefficient = 1979-05-27", "found a date"),
])
def test_a_bad_experiment_is_one_line_before_anything_runs(drivers, experiment, tmp_path, old, new,
                                                           message):
    path = changed(experiment, tmp_path, (old, new))
    assert message in drivers.error("vyx-ablate", path, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_hostile_files_are_one_line(drivers, tmp_path):
    cases = {
        "deep": b"a = " + b"[" * 100_000,
        "dotted": b"a" + b".a" * 400_000 + b" = 1\n",
        "large": b"# " + b"x" * (2 << 20),
        "binary": bytes(range(256)),
        "empty": b"",
        "includes": b'include = ["hostile.toml"]\n',
        "zeros": b"\0" * 1000
    }
    for name, data in cases.items():
        (tmp_path / "hostile.toml").write_bytes(data)
        error = drivers.error("vyx-ablate", tmp_path / "hostile.toml", "--out", tmp_path / "run")
        assert "hostile.toml" in error or "experiment" in error, (name, error)
    assert "regular file" in drivers.error("vyx-ablate", "/dev/zero", "--out", tmp_path / "run")


def test_a_folder_with_other_things_is_left_alone(drivers, experiment, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "found a folder with other things in it" in drivers.error("vyx-ablate", experiment,
                                                                     "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert "expected --out" in drivers.error("vyx-ablate", experiment, code=2)
    assert "expected an experiment" in drivers.error("vyx-ablate", code=2)
    assert LAYERS == 3  # layer 7, above, is none
