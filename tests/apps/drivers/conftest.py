"""A tiny random Llama with a byte-level tokenizer, as GGUF and as model.pt,
and a way to run the drivers."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

WIDTH, LAYERS, HEADS, KV_HEADS, FEED_FORWARD = 32, 3, 4, 2, 64
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def byte_tokens():
    """The 256 byte tokens in GPT-2's printable alphabet."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet, extra = {}, 0
    for byte in range(256):
        if byte in printable:
            alphabet[byte] = chr(byte)
        else:
            alphabet[byte], extra = chr(256 + extra), extra + 1
    return [alphabet[byte] for byte in range(256)]


def write_tiny_gguf(path, *, seed=0, width=WIDTH, tokenizer=True, spoil=None, lost_bytes=(),
                    chat_template=CHAT_TEMPLATE):
    """`spoil(name, array)` returns the weights to write instead; `lost_bytes` get a token that no
    text has."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name(f"Tiny {seed}")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = [
        *SPECIAL, *(f"lost{byte}" if byte in lost_bytes else token
                    for byte, token in enumerate(byte_tokens())), "he", "Ġa"
    ]
    if tokenizer:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")
        writer.add_token_list(tokens)
        writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
        writer.add_token_merges(["h e", "Ġ a"])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_chat_template(chat_template)

    def add(name, *shape, scale=0.3):
        array = (random.standard_normal(shape) * scale).astype(np.float32)
        if name.endswith("norm.weight"):
            array = 1 + array * 0.1
        writer.add_tensor(name, spoil(name, array) if spoil else array)

    kv_width = width // HEADS * KV_HEADS
    add("token_embd.weight", len(tokens), width)
    for k in range(LAYERS):
        add(f"blk.{k}.attn_norm.weight", width)
        add(f"blk.{k}.attn_q.weight", width, width)
        add(f"blk.{k}.attn_k.weight", kv_width, width)
        add(f"blk.{k}.attn_v.weight", kv_width, width)
        add(f"blk.{k}.attn_output.weight", width, width)
        add(f"blk.{k}.ffn_norm.weight", width)
        add(f"blk.{k}.ffn_gate.weight", FEED_FORWARD, width)
        add(f"blk.{k}.ffn_up.weight", FEED_FORWARD, width)
        add(f"blk.{k}.ffn_down.weight", width, FEED_FORWARD)
    add("output_norm.weight", width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_sae(folder, scale=1.0, width=WIDTH, hook="blocks.1.hook_resid_post", **changes):
    """x̂ = scale·x in SAELens's format: a latent for each sign of each coordinate."""
    folder.mkdir()
    both = np.concatenate([np.eye(width), -np.eye(width)]).astype(np.float32)
    save_file({
        "W_enc": np.ascontiguousarray(both.T),
        "b_enc": np.zeros(2 * width, np.float32),
        "W_dec": scale * both,
        "b_dec": np.zeros(width, np.float32)
    } | changes, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(
        json.dumps({
            "architecture": "standard",
            "d_in": width,
            "d_sae": 2 * width,
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": False,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": {
                "hook_name": hook,
                "sae_lens_version": "6.0.0"
            }
        }))
    return folder


def objects_at(value, path):
    """The objects that a path of keys leads to; lists add nothing to it, null ends it."""
    if isinstance(value, list):
        return [found for item in value for found in objects_at(item, path)]
    if value is None:
        return []
    if not path:
        return [value]
    return objects_at(value.get(path[0]), path[1:])


def key_problems(found, listed):
    """How the keys of an object differ from those listed, of which "name?" may be missing."""
    names = {name.rstrip("?") for name in listed}
    missing = {name for name in listed if not name.endswith("?")} - set(found)
    return [f"{key} is not listed"
            for key in set(found) - names] + [f"{key} is missing" for key in missing]


def form_problems(form, result):
    """How a result differs from one of the forms that --help lists."""
    problems = key_problems(
        set(result) - {"version", "files_read"},
        [key["name"] for key in form["keys"] if "." not in key["name"]])
    for key in form["keys"]:
        for found in objects_at(result, key["name"].rstrip("?").split(".")):
            if key["members"]:
                problems += [
                    f"{key['name']}.{problem}"
                    for problem in key_problems(found, key["members"].split(", "))
                ]
    return problems


class Drivers:
    """Runs drivers of the build under test. Every --json is held to the keys that --help lists, and
    every option that an error names has to be one."""
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.described = {}

    def describe(self, driver):
        """What --help --json says."""
        if driver not in self.described:
            result = subprocess.run([str(self.folder / driver), "--help", "--json"],
                                    capture_output=True, text=True, timeout=60)
            self.described[driver] = json.loads(result.stdout)
        return self.described[driver]

    def names(self):
        """Every driver of the build."""
        return sorted(path.name for path in self.folder.glob("vyx-*") if path.suffix == "")

    def options(self):
        """The options of all drivers."""
        return {"help", "version"} | {
            option["name"]
            for driver in self.names()
            for option in self.describe(driver)["options"]
        }

    def run(self, driver, *args, **kwargs):
        result = subprocess.run([str(self.folder / driver), *map(str, args)], capture_output=True,
                                text=True, timeout=300, **kwargs)
        if "--json" in args and "--help" not in args and result.stdout:
            self.require_listed(driver, json.loads(result.stdout))
        return result

    def require_listed(self, driver, result):
        """The keys of a result are those that --help lists, of one of its forms."""
        described = self.describe(driver)
        assert result["version"] == described["version"]
        problems = [form_problems(form, result) for form in described["results"]]
        assert [] in problems, (driver, min(problems, key=len))

    def json(self, driver, *args):
        result = self.run(driver, *args, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def error(self, driver, *args, code=1, **kwargs):
        """The one line on stderr of a run that must fail."""
        result = self.run(driver, *args, **kwargs)
        assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
        assert result.stderr.count("\n") == 1, result.stderr
        assert result.stdout == "", result.stdout
        named = re.sub("there is no option --[a-z-]+", "", result.stderr)
        for option in re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)", named):
            assert option in self.options(), (option, result.stderr)
        return result.stderr


@pytest.fixture
def open_page(tmp_path):
    """What Chromium makes of an HTML file: its document as text. The page may not make it block
    anything or complain."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium (third_party/debian-packages-test.txt)")

    def dom(page):
        result = subprocess.run([
            chromium, "--headless=new", "--no-sandbox", "--disable-gpu",
            f"--user-data-dir={tmp_path / 'chromium'}", "--virtual-time-budget=5000",
            "--enable-logging=stderr", "--dump-dom",
            page.as_uri()
        ], capture_output=True, text=True, timeout=120, env={
            **os.environ, "HOME": str(tmp_path)
        })
        assert result.returncode == 0, result.stderr
        assert "CONSOLE" not in result.stderr, result.stderr
        assert "Content Security Policy" not in result.stderr, result.stderr
        return result.stdout

    return dom


@pytest.fixture(scope="session")
def drivers():
    return Drivers(os.environ["VYX_BIN"])


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory):
    return write_tiny_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny_model(drivers, tiny_gguf):
    out = tiny_gguf.with_suffix(".pt")
    drivers.json("vyx-import", tiny_gguf, "--out", out)
    return out


PAIRS = [{
    "positive": f"I am glad about {thing}",
    "negative": f"I am sad about {thing}"
} for thing in ("it", "rain", "work", "the cat", "home", "today", "bread", "music", "a walk", "you")
         ]


@pytest.fixture(scope="session")
def tiny_pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return path


@pytest.fixture(scope="session")
def tiny_vector(drivers, tiny_model, tiny_pairs, tmp_path_factory):
    out = tmp_path_factory.mktemp("vector") / "glad.gguf"
    drivers.json("vyx-vector", "--model", tiny_model, "--contrast", tiny_pairs, "--method", "mean",
                 "--out", out)
    return out


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "canals.txt"
    path.write_text(
        "A canal is an artificial waterway, and some canals carry boats.\nOthers water fields.\n" *
        12)
    return path
