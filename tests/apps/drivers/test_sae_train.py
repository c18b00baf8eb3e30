"""Training that can be trusted: killed, stopped, out of disk, and refused."""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import time

import pytest

OUTPUTS = ("cfg.json", "sae_weights.safetensors", "sparsity.safetensors", "latents.safetensors")
WIDTH = 32  # of the tiny model


@pytest.fixture(scope="session")
def store(drivers, tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    generator = random.Random(0)
    (folder / "text.txt").write_text("\n\n".join(" ".join(
        "".join(generator.choices("abcdefghij", k=generator.randint(1, 7))) for _ in range(60))
                                                 for _ in range(40)))
    drivers.json("vyx-harvest", "--model", tiny_model, "--text", folder / "text.txt", "--sites",
                 "model.layers.1", "--tokens", 8000, "--out", folder / "store")
    return folder / "store"


def options(store, folder, *more, **changed):
    """Command-line options; `changed` replaces some, None leaves one out."""
    values = {
        "activations": store,
        "architecture": "topk",
        "latents": 128,
        "k": 4,
        "batch": 128,
        "lr": 2e-3,
        "steps": 400,
        "checkpoint_every": 20,
        "dead_after": 3000,
        "threads": 1,
        "out": folder,
        **changed
    }
    given = [(f"--{name.replace('_', '-')}", str(value)) for name, value in values.items()
             if value is not None]
    return [part for option in given for part in option] + list(more)


def log(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert line.pop("tokens_per_second") > 0
    return lines


def digests(folder):
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in OUTPUTS}


@pytest.fixture(scope="session")
def unbroken(drivers, store, tmp_path_factory):
    """The run that no other may differ from."""
    out = tmp_path_factory.mktemp("unbroken") / "sae"
    result = drivers.json("vyx-sae-train", *options(store, out))
    assert result["finished"] and result["step"] == 400
    return out


def require_same(out, unbroken):
    assert digests(out) == digests(unbroken)
    assert log(out) == log(unbroken)
    assert not [path for path in out.rglob(".tmp-*")]


def start(drivers, *args):
    return subprocess.Popen([str(drivers.folder / "vyx-sae-train"), *args], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def has_line(out):
    return lambda: (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size > 0


def test_the_result_is_an_autoencoder_a_log_and_a_page(unbroken):
    config = json.loads((unbroken / "cfg.json").read_text())
    assert config["architecture"] == "topk" and config["d_in"] == WIDTH and config["d_sae"] == 128
    lines = log(unbroken)
    assert [line["step"] for line in lines] == list(range(10, 401, 10))
    assert lines[-1]["explained_variance"] > lines[0]["explained_variance"]
    page = (unbroken / "training.html").read_text()
    assert "Content-Security-Policy" in page and "<script" not in page and page.count("<svg") >= 6


def test_twenty_kills_change_no_bit(drivers, store, unbroken, tmp_path):
    generator = random.Random(7)
    kills, runs = 0, 0
    while kills < 20:
        out = tmp_path / f"sae{runs}"
        finished = False
        while not finished:
            process = start(drivers, *options(store, out, "--resume"))
            try:
                _, errors = process.communicate(timeout=generator.uniform(0.02, 1.2))
                assert process.returncode == 0, errors
                finished = True
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
        require_same(out, unbroken)
        runs += 1


@pytest.mark.parametrize("stop, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_exits(drivers, store, unbroken, tmp_path, stop, code):
    out = tmp_path / "sae"
    process = start(drivers, *options(store, out, "--json", checkpoint_every=100000))
    wait_for(has_line(out), process)
    process.send_signal(stop)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    result = json.loads(output)
    assert not result["finished"] and result["step"] < 400
    assert f"step-{result['step']:09}.safetensors" in (out / "checkpoints" / "LATEST").read_text()
    assert "--resume" in errors and not (out / "cfg.json").exists()
    drivers.json("vyx-sae-train", *options(store, out, "--resume"))
    require_same(out, unbroken)


def test_a_second_signal_exits_at_once(drivers, store, tmp_path):
    out = tmp_path / "sae"
    process = start(drivers, *options(store, out, checkpoint_every=100000))
    wait_for(has_line(out), process)
    process.send_signal(signal.SIGSTOP)  # so that both come while one step runs
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode in (130, 143)
    assert "step-" not in (out / "checkpoints" / "LATEST").read_text()  # nothing was saved


def test_two_processes_do_not_share_a_folder(drivers, store, tmp_path):
    out = tmp_path / "sae"
    process = start(drivers, *options(store, out, steps=100000))
    wait_for(has_line(out), process)
    assert "another process" in drivers.error("vyx-sae-train",
                                              *options(store, out, "--resume", steps=100000))
    process.kill()
    process.communicate()


def test_a_full_disk_keeps_the_last_checkpoint(drivers, store, tmp_path):
    """On a tmpfs of 1 MiB the second checkpoint has no room; what was saved goes on elsewhere to
    the same bits."""
    base = options(store, "OUT", latents=900, steps=60)
    disk, saved, whole = tmp_path / "disk", tmp_path / "saved", tmp_path / "whole"
    disk.mkdir()
    if subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "none",
                       str(disk)], capture_output=True).returncode != 0:
        pytest.skip(
            "no right to mount a tmpfs; tests/sae/training/checkpoint_test.cpp fails each call")
    with_out = lambda out: [str(out) if part == "OUT" else part for part in base]
    script = (f'mount -t tmpfs -o size=1m none "{disk}" && '
              f'{{ "$@"; code=$?; cp -r "{disk}/sae" "{saved}"; exit $code; }}')
    result = subprocess.run([
        "unshare", "-Urm", "sh", "-c", script, "sh",
        str(drivers.folder / "vyx-sae-train"), *with_out(disk / "sae")
    ], capture_output=True, text=True, timeout=120)
    assert result.returncode == 1, (result.stdout, result.stderr)
    assert "step-000000040.safetensors" in result.stderr and result.stderr.count("\n") == 1
    assert [path.name
            for path in (saved / "checkpoints").glob("step-*")] == ["step-000000020.safetensors"]
    drivers.json("vyx-sae-train", *with_out(saved), "--resume")
    drivers.json("vyx-sae-train", *with_out(whole))
    require_same(saved, whole)


def test_a_finished_run_is_not_overwritten_by_accident(drivers, store, unbroken, tmp_path):
    out = tmp_path / "sae"
    shutil.copytree(unbroken, out)
    line = drivers.error("vyx-sae-train", *options(store, out))
    assert "--resume" in line and "--overwrite" in line
    require_same(out, unbroken)
    drivers.json("vyx-sae-train", *options(store, out, "--resume"))  # nothing left to do
    require_same(out, unbroken)
    drivers.json("vyx-sae-train", *options(store, out, "--overwrite"))
    require_same(out, unbroken)


def test_other_options_do_not_resume(drivers, store, unbroken, tmp_path):
    out = tmp_path / "sae"
    shutil.copytree(unbroken, out)
    assert "--k: found 5" in drivers.error("vyx-sae-train", *options(store, out, "--resume", k=5))
    assert "seed: found 3" in drivers.error("vyx-sae-train", *options(store, out, "--resume",
                                                                      seed=3))
    assert "--steps: found 500" in drivers.error("vyx-sae-train",
                                                 *options(store, out, "--resume", steps=500))
    require_same(out, unbroken)


@pytest.mark.parametrize("damage", [
    lambda data: data[:len(data) // 2],
    lambda data: data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]
])
def test_damaged_checkpoints(drivers, store, unbroken, tmp_path, damage):
    out = tmp_path / "sae"
    shutil.copytree(unbroken, out)
    for name in OUTPUTS:
        (out / name).unlink()
    older, newest = sorted((out / "checkpoints").glob("step-*"))
    newest.write_bytes(damage(newest.read_bytes()))
    result = drivers.run("vyx-sae-train", *options(store, out, "--resume"))
    assert result.returncode == 0 and newest.name in result.stderr and older.name in result.stderr
    require_same(out, unbroken)

    for path in (older, newest):
        path.write_bytes(damage(path.read_bytes()))
    line = drivers.error("vyx-sae-train", *options(store, out, "--resume"))
    assert "no checkpoint can be read" in line


@pytest.mark.parametrize("changed, code, expected", [
    ({
        "architecture": "transformer"
    }, 2, "batch-topk"),
    ({
        "latents": 2
    }, 2, "--k"),
    ({
        "latents": 0
    }, 2, "--latents"),
    ({
        "steps": 0
    }, 2, "--steps"),
    ({
        "steps": -1
    }, 2, "--steps"),
    ({
        "steps": None,
        "tokens": 0
    }, 2, "--tokens: found 0"),
    ({
        "tokens": 5
    }, 2, "--steps"),
    ({
        "lr": "nan"
    }, 2, "--lr"),
    ({
        "lr": 0
    }, 2, "--lr"),
    ({
        "batch": 0
    }, 2, "--batch"),
    ({
        "log_every": 0
    }, 2, "--log-every"),
    ({
        "sparsity_form": "l3"
    }, 2, "l0-target"),
    ({
        "normalization": "layer"
    }, 2, "none, scale, token-norm, layer-norm"),
    ({
        "prefixes": "64"
    }, 2, "batch-topk"),
    ({
        "architecture": "batch-topk",
        "prefixes": "5,3"
    }, 2, "--prefixes"),
    ({
        "architecture": "relu"
    }, 2, "--k has no effect with architecture relu; expected --architecture topk, batch-topk"),
    ({
        "sparsity": 1
    }, 2, "--sparsity has no effect"),
    ({
        "bandwidth": 1
    }, 2, "expected --architecture jump-relu"),
    ({
        "architecture": "jump-relu",
        "k": None,
        "l0_target": 4
    }, 2, "--l0-target has no effect with architecture jump-relu and sparsity form l0; expected "
     "--sparsity-form l0-target"),
    ({
        "text": "text.txt"
    }, 2, "--text has no effect"),
    ({
        "device": "nonsense"
    }, 2, "no such device"),
    ({
        "device": "meta"
    }, 2, "--device meta with --activations"),
    ({
        "activations": "missing"
    }, 1, "missing"),
    ({
        "out": "/proc/nothing/sae"
    }, 1, "/proc/nothing"),
])
def test_bad_input_is_one_line_and_leaves_nothing(drivers, store, tmp_path, changed, code,
                                                  expected):
    assert expected in drivers.error("vyx-sae-train", *options(store, tmp_path / "sae", **changed),
                                     code=code)
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_a_result_stands_beside_it(drivers, store, tmp_path):
    given = options(store, tmp_path / "sae", "--json", architecture="relu", k=None, sparsity=1000)
    result = drivers.run("vyx-sae-train", *given)
    assert result.returncode == 0, result.stderr
    warnings = json.loads(result.stdout)["warnings"]
    assert warnings
    for warning in warnings:
        assert f"warning: {tmp_path / 'sae'}: {warning}" in result.stderr
        assert f"Warning: {warning}." in (tmp_path / "sae/training.html").read_text()


def test_a_good_result_has_no_warning(drivers, store, tmp_path):
    result = drivers.run("vyx-sae-train", *options(store, tmp_path / "sae", "--json", k=16))
    assert result.returncode == 0 and "warning" not in result.stderr, result.stderr
    assert json.loads(result.stdout)["warnings"] == []


def test_a_run_of_an_earlier_version_is_not_gone_on_from(drivers, store, unbroken, tmp_path):
    out = tmp_path / "sae"
    shutil.copytree(unbroken, out)
    latest = json.loads((out / "checkpoints/LATEST").read_text())
    (out / "checkpoints/LATEST").write_text(json.dumps(latest | {"format": 1}))
    line = drivers.error("vyx-sae-train", *options(store, out, "--resume"))
    assert "found checkpoints of format 1, expected 2" in line and "--overwrite" in line


def test_resume_and_overwrite_contradict_each_other(drivers, store, tmp_path):
    assert "--overwrite" in drivers.error(
        "vyx-sae-train", *options(store, tmp_path / "sae", "--resume", "--overwrite"), code=2)


def test_the_page_opens_without_scripts_or_network(unbroken, open_page):
    page = unbroken / "training.html"
    assert open_page(page).count("<svg") == page.read_text().count("<svg")
