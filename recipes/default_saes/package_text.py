"""Text for the default SAEs from Debian packages and Python's standard library: what is taken from where, and how.

Packages are fetched with apt-get download and opened with dpkg-deb; nothing is installed. Their text is used to train
and measure and is not part of saekit. A document is a piece of about 4,000 characters, labelled with kind, source and
language. `OTHER_PROSE` is kept out of training: two kinds of prose that the mixture holds nothing like.
"""

from __future__ import annotations

import gzip
import html
import random
import re
import subprocess
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning

PIECE = 4_000
"""Characters of a document, about 1,000 tokens; a longer one is cut between paragraphs."""

Reader = Callable[[str], Iterator[str]]


def html_page(text: str) -> Iterator[str]:
    """The paragraphs, list items, headings and code of an HTML page, without its navigation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        soup = BeautifulSoup(text, "html.parser")
    for away in soup.find_all(["script", "style", "nav", "header", "footer"]):
        away.decompose()
    blocks = ["p", "li", "pre", "h1", "h2", "h3", "dt", "dd", "td"]
    found = [b for b in soup.find_all(blocks) if b.find(blocks) is None]
    lines = (b.get_text() if b.name == "pre" else " ".join(b.get_text(" ").split()) for b in found)
    yield "\n\n".join(re.sub(r" ([.,;:!?)])", r"\1", line).strip("\n") for line in lines if line.strip())


def whole(text: str) -> Iterator[str]:
    """The file as it is."""
    yield text


def sayings(text: str) -> Iterator[str]:
    """A fortune file's sayings, a dozen to a document."""
    parts = [part.strip("\n") for part in re.split(r"(?m)^%+\s*$", text) if part.strip()]
    parts = [re.sub(r".\x08", "", part).expandtabs(4) for part in parts]
    for at in range(0, len(parts), 12):
        yield "\n\n".join(parts[at : at + 12])


def entries(text: str) -> Iterator[str]:
    """A dictionary's entries without the notes on editions."""
    yield re.sub(r"\n? *\[(1913 Webster|PJC|WordNet 1\.5|Webster 1913 Suppl\.)[^]]*\]", "", text)


def glosses(text: str) -> Iterator[str]:
    """WordNet's words with their glosses, thirty to a document, in random order."""
    found = re.findall(r"(?m)^\d{8} \d\d \w [0-9a-f]{2} (\S+) .*?\| (.*?)\s*$", text)
    random.Random(0).shuffle(found)
    lines = [f"{word.split('(')[0].replace('_', ' ')}: {gloss}." for word, gloss in found]
    for at in range(0, len(lines), 30):
        yield "\n".join(lines[at : at + 30])


def dialogue(text: str) -> Iterator[str]:
    """The dialogue and narration of a Wesnoth scenario."""
    said = re.findall(r'(?:message|story|summary|description)\s*=\s*_\s*"((?:[^"]|"")*)"', text)
    yield "\n\n".join(re.sub(r"<[^>]*>", "", s.replace('""', '"')).strip() for s in said if len(s) > 20)


def missions(text: str) -> Iterator[str]:
    """The dialogue and narration of Endless Sky missions."""
    yield "\n".join(line.replace("\t", "") for line in re.findall(r"`([^`]{40,})`", text))


def creatures(text: str) -> Iterator[str]:
    """Descriptions and literary quotations of Dungeon Crawl."""
    parts = [re.sub(r"^\S.*\n\n", "", part.strip()) for part in text.split("%%%%") if len(part) > 120]
    parts = [re.sub(r"(?m)^#.*\n|<[^>]*>|\{\{.*?\}\}", "", part) for part in parts]
    for at in range(0, len(parts), 8):
        yield "\n\n".join(parts[at : at + 8])


@dataclass(frozen=True)
class Source:
    """Files of some packages, and how their text is read."""

    name: str
    packages: str
    """Their names with spaces between; none for Python's standard library."""
    files: str
    """A regular expression that a path must match."""
    reader: Reader
    n_tokens: int
    """About how many tokens to take."""
    kind: str
    language: str = "en"


WESNOTH = "httt trow did ei low nr sof sotbe sota thot l utbs dm dw tsg ttb"
SOURCES = (
    Source("anarchism", "anarchism", r"/html/sec\w+\.html$", html_page, 260_000, "essay"),
    Source(
        "wesnoth",
        " ".join(f"wesnoth-1.16-{c}" for c in WESNOTH.split()),
        r"/campaigns/.*\.cfg$",
        dialogue,
        260_000,
        "fiction",
    ),
    Source("gcide", "dict-gcide", r"\.dict\.dz$", entries, 130_000, "dictionary"),
    Source("wordnet", "wordnet-base", r"/data\.(noun|verb|adj)$", glosses, 110_000, "dictionary"),
    Source("jargon", "dict-jargon", r"\.dict\.dz$", whole, 80_000, "dictionary"),
    Source("foldoc", "dict-foldoc", r"\.dict\.dz$", whole, 80_000, "dictionary"),
    Source("fortunes", "fortunes fortunes-min", r"/fortunes/[a-z-]+$", sayings, 200_000, "sayings"),
    Source("handbook", "debian-handbook", r"/en-US/.*\.html$", html_page, 100_000, "manual"),
    Source("postgresql", "postgresql-doc-15", r"\.html$", html_page, 70_000, "manual"),
    Source("apache", "apache2-doc", r"/en/.*\.html$", html_page, 50_000, "manual"),
    Source("rust", "rust-doc", r"/html/book/.*\.html$", html_page, 90_000, "manual"),
    Source("python", "python3.11-doc", r"/html/(tutorial|library|howto|faq)/.*\.html$", html_page, 120_000, "manual"),
    Source("stdlib", "", r"\.py$", whole, 220_000, "code", "python"),
    Source("lodash", "node-lodash node-express", r"\.js$", whole, 60_000, "code", "javascript"),
    Source("headers", "libc6-dev libstdc++-12-dev", r"\.h$", whole, 60_000, "code", "c"),
    *(
        Source(f"reference-{code}", f"debian-reference-{code}", r"\.html$", html_page, 40_000, "manual", code)
        for code in ("fr", "de", "es", "it")
    ),
    *(
        Source(f"fortunes-{code}", f"fortunes-{code}", rf"/{code}/[\w.-]+$", sayings, 60_000, "sayings", code)
        for code in ("de", "es", "it")
    ),
    Source("apache-fr", "apache2-doc", r"/fr/.*\.html$", html_page, 60_000, "manual", "fr"),
    Source("constitution", "miscfiles", r"/us-\w+\.gz$", whole, 20_000, "law"),
)
OTHER_PROSE = (
    Source("endless-sky", "endless-sky-data", r"/data/.*\.txt$", missions, 60_000, "science fiction"),
    Source("crawl", "crawl-common", r"/descript/\w+\.txt$", creatures, 60_000, "descriptions"),
)


def fetch(folder: Path, sources: tuple[Source, ...] = (*SOURCES, *OTHER_PROSE)) -> dict[str, str]:
    """The versions of the packages by name, after downloading and unpacking those that are missing."""
    versions = {}
    for package in sorted({name for source in sources for name in source.packages.split()}):
        target = folder / package
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["apt-get", "download", package], cwd=folder, check=True, capture_output=True)
            (archive,) = folder.glob(f"{package}_*.deb")
            subprocess.run(["dpkg-deb", "-x", archive, target.with_suffix(".partial")], check=True)
            target.with_suffix(".partial").rename(target)
        (archive,) = folder.glob(f"{package}_*.deb")
        versions[package] = archive.name.split("_")[1].replace("%3a", ":")
    return versions


def paths(folder: Path, source: Source) -> list[Path]:
    """The source's files, sorted."""
    roots = [folder / name for name in source.packages.split()] or [Path(sysconfig.get_path("stdlib"))]
    found = [
        p
        for root in roots
        for p in sorted(root.rglob("*"))
        if p.is_file() and not p.is_symlink() and "site-packages" not in p.parts and re.search(source.files, str(p))
    ]
    return [p for p in found if p.suffix not in {".dat", ".u8"}]


def read(path: Path) -> str:
    """The file's text, decompressed where it has to be."""
    data = path.read_bytes()
    if path.suffix in {".gz", ".dz"}:
        data = gzip.decompress(data)
    return data.decode("utf-8", errors="ignore")


def pieces(text: str) -> Iterator[str]:
    """Pieces of at most PIECE characters, cut between lines; pieces under 200 characters are dropped."""
    text = re.sub(r"\n{3,}", "\n\n", html.unescape(text)).strip()
    while text:
        end = len(text)
        if end > PIECE:
            end = max(text.rfind("\n\n", PIECE // 2, PIECE), 0) or max(text.rfind("\n", PIECE // 2, PIECE), 0) or PIECE
        piece, text = text[:end].strip("\n"), text[end:].lstrip("\n")
        if len(piece) >= 200:
            yield piece


def documents(folder: Path, source: Source, tokenizer: Any, seed: int = 0) -> list[dict[str, str]]:
    """About `source.n_tokens` tokens of the source as documents, from its files in random order."""
    draw, enough = random.Random(seed), 10 * source.n_tokens
    found: list[str] = []
    files = paths(folder, source)
    draw.shuffle(files)
    for path in files:
        if sum(len(piece) for piece in found) > enough:
            break
        found += [piece for text in source.reader(read(path)) for piece in pieces(text)]
    draw.shuffle(found)
    chosen, n = [], 0
    for piece in dict.fromkeys(found):
        if n >= source.n_tokens:
            break
        n += len(tokenizer(piece, add_special_tokens=False)["input_ids"])
        chosen.append({"text": piece, "kind": source.kind, "source": source.name, "language": source.language})
    return chosen
