"""Chats against transformers' apply_chat_template: the text that a template writes, for templates
in many spellings, and SmolLM2's tokens (parity_chat.cpp)."""

import json
import random

import gguf
import pytest
import tokenizers
import torch
import transformers

CHATS = [[("user", "How was your day?")],
         [("user", " two\nlines "), ("assistant", "Yes."), ("user", "And?")],
         [("system", "Be brief."), ("user", "Hi 1234!")], [("user", "")]]

TURN = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
OPENING = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
SYSTEM = "{{ '<|im_start|>system\nYou are kind.<|im_end|>\n' }}"
PLAIN = "{% for message in messages %}" + TURN + "{% endfor %}" + OPENING
INSIDE = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}" +
          SYSTEM + "{% endif %}" + TURN + "{% endfor %}" + OPENING)
BEFORE = "{% if messages[0]['role'] != 'system' %}" + SYSTEM + "{% endif %}" + PLAIN


def messages_of(chat):
    return [{"role": role, "content": content} for role, content in chat]


@pytest.fixture(scope="module")
def smollm2_template(gguf_path):
    return gguf.GGUFReader(gguf_path).fields["tokenizer.chat_template"].contents()


@pytest.fixture(scope="module")
def ours(run, tmp_path_factory):
    """ours(requests, "texts" or "tokens", …): the answers of parity-chat."""
    path = tmp_path_factory.mktemp("chat") / "requests.json"

    def call(requests, command, *args):
        path.write_text(json.dumps(requests))
        result = run("parity-chat", command, *args, path)
        assert result.returncode == 0, result.stderr.decode()
        return json.loads(result.stdout)

    return call


def rendered(template, chat):
    """What Jinja makes of it under transformers' settings; None for a template that is broken."""
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.BPE()))
    return tokenizer.apply_chat_template(messages_of(chat), chat_template=template, tokenize=False,
                                         add_generation_prompt=True)


def test_known_templates_are_written_as_jinja_writes_them(ours, smollm2_template):
    templates = [smollm2_template, PLAIN, INSIDE, BEFORE]
    requests = [{
        "template": template,
        "messages": messages_of(chat)
    } for template in templates for chat in CHATS]
    expected = [rendered(template, chat) for template in templates for chat in CHATS]
    assert ours(requests, "texts") == expected


def respelled(template, generator):
    """The template with blanks, line ends and signs where Jinja may or may not take them away."""
    out = ""
    for piece in template.replace("{{", "\0{{").replace("{%", "\0{%").replace("}}", "}}\0").replace(
            "%}", "%}\0").split("\0"):
        if piece.startswith(("{{", "{%")) and generator.random() < 0.4:
            piece = piece[:2] + "-" + piece[2:]
        if piece.endswith(("}}", "%}")) and generator.random() < 0.4:
            piece = piece[:-2] + "-" + piece[-2:]
        out += generator.choice(["", "", "", "\n", "\n  ", " "]) + piece
    return out


def test_a_template_is_written_as_jinja_writes_it_or_not_at_all(ours, smollm2_template):
    generator = random.Random(3)
    templates = [
        respelled(generator.choice([smollm2_template, PLAIN, INSIDE, BEFORE]), generator)
        for _ in range(2000)
    ]
    requests = [{"template": template, "messages": messages_of(CHATS[0])} for template in templates]
    known = 0
    for template, text in zip(templates, ours(requests, "texts")):
        if text is not None:
            known += 1
            assert text == rendered(template, CHATS[0]), template
    assert 20 < known < 1980


def test_the_tokens_of_a_chat_are_those_of_transformers(ours, model_path, smollm2_template):
    files = {"tokenizer.json": ""}
    torch.jit.load(str(model_path), _extra_files=files)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_str(files["tokenizer.json"].decode()),
        chat_template=smollm2_template)
    expected = [
        theirs(
            theirs.apply_chat_template(messages_of(chat), tokenize=False,
                                       add_generation_prompt=True),
            add_special_tokens=False)["input_ids"] for chat in CHATS
    ]
    assert ours([{
        "messages": messages_of(chat)
    } for chat in CHATS], "tokens", model_path) == expected
    assert len(expected[0]) == 35  # with the template's own system message
