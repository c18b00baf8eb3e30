"""The tokenizer against Python's `tokenizers`, token for token, on SmolLM2's vocabulary
(parity_tokenizer.cpp has the protocol).

SmolLM2's pre-tokenizer is Digits and then ByteLevel. 21 of the 256 bytes have no token;
`tokenizers` leaves them out in silence, and so must we to be equal.

Letters and digits are looked up in PCRE2's tables here (Debian 12: Unicode 14) and in newer ones
there. They differ only at code points that Unicode 14 does not assign, so text is made of code
points that Python's own tables (14.0 in Python 3.11) assign; test_every_code_point_alone leaves out
none."""

import codecs
import json
import random
import re
import struct
import sys
import sysconfig
import unicodedata
from pathlib import Path

import gguf
import pytest
import tokenizers

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # GGUF's token types
CODE_POINTS = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
ASSIGNED = [c for c in CODE_POINTS if unicodedata.category(c) not in ("Cn", "Co")]

BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True
}
SPLIT_ONLY = {**BYTE_LEVEL, "use_regex": False}
SMOLLM2 = {
    "type": "Sequence",
    "pretokenizers": [{
        "type": "Digits",
        "individual_digits": True
    }, BYTE_LEVEL]
}
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    step = {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}
    return {"type": "Sequence", "pretokenizers": [step, SPLIT_ONLY]}


PRE_TOKENIZERS = {
    "gpt2": BYTE_LEVEL,
    "llama3": split(LLAMA3),
    "qwen2": split(LLAMA3.replace("{1,3}", "")),
    "removed": split(LLAMA3, "Removed", invert=True),
    "text": split(" ", "Removed", kind="String"),
    "digit runs": {
        "type": "Sequence",
        "pretokenizers": [{
            "type": "Digits",
            "individual_digits": False
        }, BYTE_LEVEL]
    },
    "none": SPLIT_ONLY,
}


@pytest.fixture(scope="module")
def smollm2(gguf_path):
    """SmolLM2's tokenizer.json, from the GGUF's vocabulary."""
    fields = gguf.GGUFReader(gguf_path).fields
    tokens, types, merges = (fields[f"tokenizer.ggml.{name}"].contents()
                             for name in ("tokens", "token_type", "merges"))
    added = [
        added_token(id, tokens[id], type == CONTROL) for id, type in enumerate(types)
        if type in (CONTROL, USER_DEFINED)
    ]
    return tokenizer_json({token: id for id, token in enumerate(tokens)}, merges, added, SMOLLM2)


def added_token(id, content, special=True, normalized=False):
    plain = {"single_word": False, "lstrip": False, "rstrip": False}
    return {"id": id, "content": content, "special": special, "normalized": normalized, **plain}


def tokenizer_json(vocabulary, merges, added, pre_tokenizer, **model):
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "fuse_unk": False,
        "byte_fallback": False,
        **model
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": BYTE_LEVEL,
        "model": {
            **model, "vocab": vocabulary,
            "merges": merges
        },
    }


class Pair:
    """One tokenizer.json, ours and theirs."""
    def __init__(self, run, folder, config):
        self.run, self.path = run, folder / "tokenizer.json"
        self.path.write_text(json.dumps(config))
        self.theirs = tokenizers.Tokenizer.from_str(json.dumps(config))

    def ours(self, texts, *options):
        """(ids, decoded bytes, nanoseconds) of each text, str or bytes."""
        texts = [text.encode() if isinstance(text, str) else text for text in texts]
        request = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        result = self.run("parity-tokenizer", self.path, *options, input=request)
        assert result.returncode == 0, result.stderr.decode()
        answer, at, rows = result.stdout, 0, []
        for _ in texts:
            (count, ) = struct.unpack_from("<I", answer, at)
            ids = list(struct.unpack_from(f"<{count}q", answer, at + 4))
            at += 4 + 8 * count
            (length, ) = struct.unpack_from("<I", answer, at)
            decoded = answer[at + 4:at + 4 + length]
            at += 4 + length
            rows.append((ids, decoded, *struct.unpack_from("<Q", answer, at)))
            at += 8
        assert at == len(answer)
        return rows

    def check(self, texts, plain=False):
        """Both give the same ids for each text."""
        self.theirs.encode_special_tokens = plain
        expected = [
            encoding.ids for encoding in self.theirs.encode_batch(texts, add_special_tokens=False)
        ]
        rows = self.ours(texts, *["--plain"] * plain)
        wrong = [(text, row[0], ids) for text, row, ids in zip(texts, rows, expected)
                 if row[0] != ids]
        assert not wrong, (f"{len(wrong)} of {len(texts)} differ; "
                           f"(text, ours, theirs): {ascii(wrong[0])}")
        return rows


@pytest.fixture(scope="module")
def pair(run, tmp_path_factory):
    return lambda config: Pair(run, tmp_path_factory.mktemp("tokenizer"), config)


# --- texts ----------------------------------------------------------------------------------------


def library_text():
    """Real text of any machine with Python: its own library, with its documentation and its tests
    of other scripts."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = [
        path for path in sorted(folder.glob("**/*.py"))
        if "site-packages" not in path.parts and "dist-packages" not in path.parts
    ]
    return "".join(path.read_text(encoding="utf-8", errors="replace") for path in files[:400])


def by_script():
    """Assigned characters by the first word of their name: LATIN, CJK, DEVANAGARI, …, with what is
    combined and punctuated."""
    scripts = {}
    for c in ASSIGNED:
        scripts.setdefault(unicodedata.name(c, "CONTROL").split()[0], []).append(c)
    return [characters for characters in scripts.values() if len(characters) >= 10]


SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<file_sep>", "<jupyter_code>",
    "<empty_output>"
]
EMOJI = [
    "👩\u200d💻", "👨\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈", "👍🏽", "🇩🇪", "1️⃣", "❤️", "🧑🏿\u200d🤝\u200d🧑🏻",
    "\u200d", "\ufe0f"
]
BLANKS = [c for c in ASSIGNED if c.isspace()
          ] + ["\u180e", "\u200b", "\u2060", "\ufeff", "\r\n", "  ", "\t\t"]
DIGITS = [c for c in ASSIGNED if unicodedata.category(c)[0] == "N"]
MARKS = [c for c in ASSIGNED if unicodedata.category(c)[0] == "M"]
CONTROLS = [c for c in ASSIGNED if unicodedata.category(c) in ("Cc", "Cf")]
CONTRACTIONS = ["'s", "'S", "'ll", "'LL", "'ve", "'re", "'d", "'m", "'t", "'", "''s", "'ſ", "’s"]


def broken_special(rng):
    token = rng.choice(SPECIAL)
    cut = rng.randrange(1, len(token))
    return rng.choice([
        token[:cut], token[cut:], token[:cut] + rng.choice(["", " ", "|", "é"]) + token[cut:],
        token + token[:cut]
    ])


def texts(count, seed):
    rng = random.Random(seed)
    library, scripts = library_text(), by_script()

    def window(limit):
        at = rng.randrange(len(library))
        return library[at:at + rng.randrange(1, limit)]

    def letters(limit):
        characters = rng.choice(scripts)
        return "".join(rng.choice(characters) for _ in range(rng.randrange(1, limit)))

    def some(choices, limit=8):
        return "".join(rng.choice(choices) for _ in range(rng.randrange(1, limit)))

    kinds = [
        lambda: window(400),
        lambda: letters(40),
        lambda: " ".join(letters(8) for _ in range(rng.randrange(1, 12))),
        lambda: some(BLANKS),
        lambda: some(DIGITS),
        lambda: some(EMOJI),
        lambda: some(CONTROLS),
        lambda: "".join(rng.choice("aeoünk ") + some(MARKS, 4) for _ in range(rng.randrange(1, 8))),
        lambda: window(12) + rng.choice(CONTRACTIONS),
        lambda: rng.choice(SPECIAL),
        lambda: broken_special(rng),
        lambda: some(ASSIGNED, 20),
        lambda: rng.choice("aà1 !\n\u00ad中") * rng.randrange(1, 3000),
        lambda: letters(3) * rng.randrange(1, 500),
    ]
    return ["".join(rng.choice(kinds)() for _ in range(rng.randrange(1, 6))) for _ in range(count)]


# --- tests ----------------------------------------------------------------------------------------


def test_ten_thousand_texts(pair, smollm2):
    smol, rng_texts = pair(smollm2), texts(10_000, seed=1)
    rows = smol.check(rng_texts)
    missing = missing_bytes(smollm2)
    whole = 0
    for text, (ids, decoded, _) in zip(rng_texts, rows):
        assert decoded.decode("utf-8",
                              "replace") == smol.theirs.decode(ids, skip_special_tokens=False)
        if not missing & set(text.encode()):
            assert decoded == text.encode()
            whole += 1
    assert whole > 5_000


def test_special_tokens_as_plain_text(pair, smollm2):
    smol = pair(smollm2)
    chosen = [text for text in texts(4_000, seed=2) if "<" in text]
    assert len(chosen) > 1_000
    rows = smol.check(chosen, plain=True)
    special = {token["id"] for token in smollm2["added_tokens"]}
    assert not any(special & set(ids) for ids, _, _ in rows)


def test_every_code_point_alone(pair, smollm2):
    pair(smollm2).check(CODE_POINTS)


@pytest.mark.parametrize("around", [(" ", "a"), ("1", " "), ("!", "\n")], ids=ascii)
def test_every_assigned_code_point_among_others(pair, smollm2, around):
    # Han and Hangul syllables are alike in all that matters here: one in 16.
    chosen = [c for c in ASSIGNED if unicodedata.category(c) != "Lo" or ord(c) % 16 == 0]
    pair(smollm2).check([around[0] + c + around[1] for c in chosen])


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_other_pre_tokenizers(pair, smollm2, name):
    pair({**smollm2, "pre_tokenizer": PRE_TOKENIZERS[name]}).check(texts(1_500, seed=3))


def test_any_merges(pair):
    """Random merges, ranks in any order, pairs listed twice, several ways to one token, bytes
    without a token."""
    for seed in range(12):
        rng = random.Random(seed)
        missing = set(
            rng.sample([c for c in BYTE_TO_CHARACTER.values() if not c.isascii() and c != "Ġ"], 20))
        vocabulary = {
            c: id
            for id, c in enumerate(c for c in BYTE_TO_CHARACTER.values() if c not in missing)
        }
        parts, merges = ["a", "b", "c", "a", "b"], []
        for _ in range(rng.choice([5, 30, 150])):
            left, right = rng.choice(parts), rng.choice(parts)
            if len(left + right) <= 12:
                vocabulary.setdefault(left + right, len(vocabulary))
                parts.append(left + right)
                merges += [[left, right]] * rng.choice([1, 1, 1, 2])
        rng.shuffle(merges)
        unknown = {"unk_token": "a", "fuse_unk": seed % 2 == 0} if seed % 3 == 0 else {}
        contents = sorted(
            {"".join(rng.choices("abc<>é", k=rng.randrange(1, 6)))
             for _ in range(30)} - vocabulary.keys())
        added = [
            added_token(
                len(vocabulary) + i, content, special=rng.random() < 0.5, normalized=rng.random()
                < 0.5) for i, content in enumerate(contents if seed % 2 else [])
        ]
        config = tokenizer_json(vocabulary, merges, added, BYTE_LEVEL, ignore_merges=seed % 4 == 1,
                                **unknown)
        chosen = [
            "".join(rng.choices("abcabcabc<>é \x84\n", k=rng.randrange(60))) for _ in range(500)
        ]
        both = pair(config)
        both.check(chosen)
        both.check(chosen, plain=True)


def test_invalid_utf8(pair, smollm2):
    """Against a reference written here: each ill-formed sequence is a word of its own."""
    smol, reference, rng = pair(smollm2), Reference(smollm2), random.Random(4)
    sources = [text.encode() for text in texts(1_500, seed=5)]
    damaged = []
    for text in sources:
        text = bytearray(text[:300])
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(text) + 1)
            text[at:at + rng.randrange(3)] = rng.randbytes(rng.randrange(4))
        damaged.append(bytes(text))
    damaged += [bytes([byte])
                for byte in range(256)] + [rng.randbytes(rng.randrange(64)) for _ in range(500)]
    damaged += [
        b"a\xe2\x82a", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xf0\x9f\x98",
        b" \xff ", b"<|im_\xff"
    ]
    assert sum(not valid(text) for text in damaged) > 1_000
    for text, (ids, decoded, _) in zip(damaged, smol.ours(damaged)):
        assert ids == reference.encode(text, smol.theirs.pre_tokenizer), text
        assert decoded == bytes(byte for byte in text if byte not in reference.missing), text


@pytest.mark.parametrize("unit", ["a", " ", "1", "é", "ab"], ids=ascii)
def test_time_is_linear_in_the_longest_word(pair, smollm2, unit):
    short, long = (unit * (size // len(unit.encode())) for size in (100_000, 1_000_000))
    smol = pair(smollm2)
    smol.check([short])
    times = [time for _, _, time in smol.ours([short] * 3 + [long] * 3)]
    ratio = min(times[3:]) / min(times[:3])
    print(
        f"{ascii(unit)}: 1 MB in {min(times[3:]) / 1e6:.0f} ms, {ratio:.1f} times as long as 100 KB"
    )
    assert ratio < 40  # 10 would be linear, 100 quadratic


def test_transformers_reading_the_gguf(pair, smollm2, gguf_path):
    """transformers gives GGUF files of this kind GPT-2's pre-tokenizer, without SmolLM2's Digits:
    equal where no digit is."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(gguf_path.parent, gguf_file=gguf_path.name)
    assert json.loads(theirs.backend_tokenizer.to_str())["pre_tokenizer"] == BYTE_LEVEL
    digits = set(DIGITS)
    chosen = [text for text in texts(2_000, seed=6) if not digits & set(text)][:400]
    assert len(chosen) == 400
    for text, (ids, _, _) in zip(chosen, pair(smollm2).ours(chosen)):
        assert ids == theirs(text, add_special_tokens=False)["input_ids"], ascii(text)


# --- a reference for bytes that are not UTF-8 -----------------------------------------------------


def byte_to_character():
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    table = {byte: chr(byte) for byte in printable}
    return dict(sorted((table | {byte: chr(256 + i) for i, byte in enumerate(others)}).items()))


BYTE_TO_CHARACTER = byte_to_character()


def missing_bytes(config):
    return {
        byte
        for byte, character in BYTE_TO_CHARACTER.items()
        if character not in config["model"]["vocab"]
    }


def valid(text):
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def well_formed_and_not(text):
    """The pieces of `text`, in order: str for what is UTF-8, bytes for each ill-formed sequence
    (Python finds the same maximal subparts that it would replace)."""
    pieces, done = [], 0

    def note(error):
        nonlocal done
        pieces.extend(
            [error.object[done:error.start].decode(), error.object[error.start:error.end]])
        done = error.end
        return "", error.end

    codecs.register_error("vyx-note", note)
    text.decode("utf-8", "vyx-note")
    return [piece for piece in [*pieces, text[done:].decode()] if piece]


class Reference:
    def __init__(self, config):
        self.vocabulary = config["model"]["vocab"]
        self.ranks = {
            tuple(merge.split(" ")): rank
            for rank, merge in enumerate(config["model"]["merges"])
        }
        self.special = {token["content"].encode(): token["id"] for token in config["added_tokens"]}
        self.missing = missing_bytes(config)

    def encode(self, text, pre_tokenizer):
        ids = []
        for part in re.split(b"(" + b"|".join(map(re.escape, self.special)) + b")", text):
            if part in self.special:
                ids.append(self.special[part])
                continue
            for piece in well_formed_and_not(part):
                if isinstance(piece, str):
                    words = [word for word, _ in pre_tokenizer.pre_tokenize_str(piece)]
                else:
                    words = ["".join(BYTE_TO_CHARACTER[byte] for byte in piece)]
                for word in words:
                    ids += [
                        self.vocabulary[token]
                        for token in self.merge([c for c in word if c in self.vocabulary])
                    ]
        return ids

    def merge(self, tokens):
        while True:
            ranked = [(self.ranks[pair], i) for i, pair in enumerate(zip(tokens, tokens[1:]))
                      if pair in self.ranks]
            if not ranked:
                return tokens
            _, i = min(ranked)
            tokens = [*tokens[:i], tokens[i] + tokens[i + 1], *tokens[i + 2:]]
