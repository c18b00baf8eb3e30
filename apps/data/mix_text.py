"""English text for the demo's autoencoder, out of unpacked Debian packages:
mix_text.py PACKAGES TRAIN.jsonl HELDOUT.jsonl

PACKAGES holds one folder per package, as `dpkg -x` leaves it. Documents are paragraphs that belong
together, up to some 3,000 characters, of essays, manuals, dictionaries and aphorisms. No source
gives more than its share, and the documents are shuffled, so that any beginning of the file is a
mix. The same packages give the same bytes. Standard library only.
"""

import gzip
import hashlib
import html.parser
import json
import os
import pathlib
import random
import re
import sys
import textwrap

DOCUMENT = 3000  # characters
MIB = 1 << 20


class HtmlText(html.parser.HTMLParser):
    """The paragraphs of a page."""

    BLOCKS = {
        "p", "div", "li", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "blockquote", "br", "tr",
        "table", "pre", "dd", "dt"
    }
    SKIPPED = {"script", "style", "head", "nav"}

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts, self.skipping = [], 0

    def handle_starttag(self, tag, attributes):
        self.skipping += tag in self.SKIPPED
        if tag in self.BLOCKS:
            self.parts.append("\n\n")

    def handle_endtag(self, tag):
        self.skipping -= tag in self.SKIPPED
        if tag in self.BLOCKS:
            self.parts.append("\n\n")

    def handle_data(self, data):
        if not self.skipping:
            self.parts.append(re.sub(r"\s+", " ", data))


def read(path):
    opened = gzip.open if path.suffix in (".gz", ".dz") else open
    with opened(path, "rb") as file:
        return file.read().decode("utf-8", "replace")


def paragraphs(text):
    return [
        paragraph for paragraph in (part.strip("\n").rstrip()
                                    for part in re.split(r"\n\s*\n", text)) if paragraph.strip()
    ]


def grouped(parts):
    """Paragraphs as documents of about DOCUMENT characters."""
    document = []
    for part in parts:
        if document and sum(map(len, document)) + len(part) > DOCUMENT:
            yield "\n\n".join(document)
            document = []
        document.append(part)
    if document:
        yield "\n\n".join(document)


def anarchism(root):
    for path in sorted(root.glob("usr/share/doc/anarchism/html/*.html")):
        parser = HtmlText()
        parser.feed(read(path))
        yield from grouped(
            re.sub(r" +", " ", part).strip() for part in paragraphs("".join(parser.parts)))


def manual(pattern):
    def documents(root):
        for path in sorted(root.glob(pattern)):
            yield from grouped(paragraphs(textwrap.dedent(read(path))))

    return documents


def pod(root):
    """Perl's manual without markup, tables of contents, lists of characters and of changes."""
    for path in sorted(root.glob("usr/share/perl/*/pod/*.pod")):
        if re.search(r"delta|perltoc|perlapi|perlintern|uniprops|perlmodlib|perlebcdic|perldiag",
                     path.name):
            continue
        text = re.sub(r"(?ms)^=(begin|for)\b.*?(^=end[^\n]*$|\n\n)", "", read(path))
        text = re.sub(r"(?m)^=(?:head\d|item|over|back|encoding|cut|pod)\b *(?:\d+|utf8|\*)? *", "",
                      text)
        for _ in range(3):  # codes nest: L<B<…>>
            text = re.sub(r"\b[IBCLEFSXZ](?:<<+ (.*?) >>+|<([^<>]*)>)",
                          lambda match: match[1] or match[2] or "", text)
        yield from grouped(paragraphs(text))


def fortunes(root):
    for path in sorted(root.glob("usr/share/games/fortunes/*")):
        if path.is_file() and not path.is_symlink() and path.suffix == "":
            yield from (part.strip("\n") for part in re.split(r"(?m)^%\n", read(path)))


def dictionary(name, every=1):
    """Each `every`th entry of a dictd dictionary. Its index has one line per entry: word, offset,
    and length in base 64."""
    digits = {
        character: i
        for i, character in enumerate(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
    }

    def number(text):
        value = 0
        for character in text:
            value = value * 64 + digits[character]
        return value

    def documents(root):
        folder = root / "usr/share/dictd"
        with gzip.open(folder / f"{name}.dict.dz", "rb") as file:
            data = file.read()
        entries = {
            (number(offset), number(length))
            for _, offset, length, *_ in (line.split("\t")
                                          for line in read(folder / f"{name}.index").splitlines()
                                          if not line.startswith("00"))
        }
        for offset, length in sorted(entries)[::every]:
            yield textwrap.dedent(data[offset:offset + length].decode("utf-8",
                                                                      "replace")).strip("\n")

    return documents


# Package: how its documents are found, and the most that they may take in all.
SOURCES = {
    "anarchism": (anarchism, 3 * MIB),
    "debian-faq": (manual("usr/share/doc/debian/FAQ/debian-faq.en.txt.gz"), MIB),
    "debian-policy": (manual("usr/share/doc/debian-policy/policy.txt.gz"), MIB),
    "debian-reference-en": (manual("usr/share/debian-reference/debian-reference.en.txt.gz"), MIB),
    "dict-devil": (dictionary("devil"), MIB),
    "dict-foldoc": (dictionary("foldoc"), MIB),
    "dict-gcide": (dictionary("gcide", every=16), 2 * MIB),
    "dict-jargon": (dictionary("jargon"), MIB),
    "fortunes": (fortunes, 2 * MIB),
    "fortunes-min": (fortunes, MIB),
    "perl-doc": (pod, MIB),
}


def mix(packages):
    shuffler = random.Random(0)
    documents = []
    for package, (extract, share) in SOURCES.items():
        texts = [text for text in extract(packages / package) if len(text.strip()) >= 40]
        if not texts:
            sys.exit(f"mix_text.py: found no text in {packages / package};"
                     " is the package of another release?")
        shuffler.shuffle(texts)
        size, taken = 0, 0
        while taken < len(texts) and size < share:
            size += len(texts[taken].encode())
            taken += 1
        documents += [{"source": package, "text": text} for text in texts[:taken]]
        print(f"  {package:<20} {taken:>6} documents, {size / 1e6:.2f} MB", file=sys.stderr)
    shuffler.shuffle(documents)
    return documents


def write(out, documents):
    data = "".join(json.dumps(document, ensure_ascii=False) + "\n"
                   for document in documents).encode()
    part = out.with_name(out.name + ".part")
    part.write_bytes(data)
    os.replace(part, out)
    print(f"{out}: {len(data) / 1e6:.1f} MB, SHA-256 {hashlib.sha256(data).hexdigest()}",
          file=sys.stderr)


def main():
    if len(sys.argv) != 4:
        sys.exit("usage: mix_text.py PACKAGES TRAIN.jsonl HELDOUT.jsonl")
    packages, train, heldout = map(pathlib.Path, sys.argv[1:])
    documents = mix(packages)
    cut = len(documents) // 50  # of every source its share, since they are shuffled
    write(heldout, documents[:cut])
    write(train, documents[cut:])


if __name__ == "__main__":
    main()
