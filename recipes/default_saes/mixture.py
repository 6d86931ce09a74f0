"""The text that the default SAEs learn from and are judged on: gathered, labelled, freed of doubles, split by a hash.

`build` writes mixture.parquet (training), held_out.parquet and other.parquet (prose of kinds that the mixture does not
have), and texts.json, which says what is in them. A document is held out when the hash of its text says so, so it is on
its side for good, whatever is added later. Knows text and tokens; nothing of activations.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd

import saekit as sk
from saekit.atomic_io import atomic_write, write_json

from ..demo_corpus.topics import TOPICS
from . import package_text

LABELS = ["source", "kind", "language", "topic", "group", "style"]
HELD_OUT = 0.05
"""Share of every source's documents."""
SHINGLE, SHARED = 13, 0.5
"""A training document of which this share of runs of 13 words stands in the text to be judged on is left out."""
N_WANTED, LONG = 30, 500
"""Documents of a concept that come first in the evidence, and the tokens of one, about."""
OWN = ("own", "demo")
"""Sources that the model wrote: the only ones whose text may be shown."""
FUNCTION_WORDS = {
    "en": "the and of is that with for was this have",
    "de": "der die und das ist nicht ein eine mit den",
    "fr": "le les des est une dans pour qui sur pas",
    "es": "el los que una por con las del para es",
    "it": "il che di una per sono della con non gli",
    "pt": "os que uma com não para são da em um",
}


def plain(text: str) -> str:
    return " ".join(text.split())


def draw(text: str, purpose: str) -> float:
    """A number from 0 to 1 that follows from the text alone."""
    digest = hashlib.sha256(f"{purpose}\0{plain(text)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_held_out(text: str) -> bool:
    """Whether a document is on the held-out side."""
    return draw(text, "held out") < HELD_OUT


def language_of(text: str) -> str:
    """The language whose function words are commonest; for what the model was asked to write in another language."""
    words = re.findall(r"[^\W\d_]+", text.split("<|im_start|>assistant")[-1].lower())
    counts = {code: sum(words.count(w) for w in line.split()) for code, line in FUNCTION_WORDS.items()}
    return max(counts, key=lambda code: counts[code])


def written_by_the_model(own: Path) -> pd.DataFrame:
    """The model's own text, that of the demo corpus too, under one set of topic names."""
    demo = sk.load_corpus("demo").to_frame().assign(source="demo")
    demo["topic"] = [TOPICS[topic][1] for topic in demo["topic"]]
    parts = [pd.read_parquet(path).assign(source="own") for path in sorted(own.glob("part-*.parquet"))]
    found = pd.concat([*parts, demo], ignore_index=True).assign(kind="model")
    found["language"] = [
        language_of(t) if g == "language" else "en" for t, g in zip(found["text"], found["group"], strict=True)
    ]
    return found


def carried(folder: Path, packages: Path, source: package_text.Source, tokenizer: Any) -> pd.DataFrame:
    """A source's documents, read from its packages once and then from FOLDER/sources."""
    path = folder / "sources" / f"{source.name}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = pd.DataFrame(package_text.documents(packages, source, tokenizer))
        with atomic_write(path) as part:
            found.to_parquet(part)
        print(f"  {source.name}: {len(found):,} documents", flush=True)
    return pd.read_parquet(path)


def spread(frame: pd.DataFrame) -> pd.DataFrame:
    """The same documents in an order in which every beginning holds every source in proportion."""
    order = pd.Series([draw(text, "order") for text in frame["text"]], index=frame.index)
    place = order.groupby(frame["source"]).rank() / frame.groupby("source")["text"].transform("size")
    return frame.loc[pd.DataFrame({"place": place, "order": order}).sort_values(["place", "order"]).index]


def shingles(text: str) -> set[int]:
    words = plain(text).lower().split()
    return {hash(tuple(words[i : i + SHINGLE])) for i in range(len(words) - SHINGLE + 1)}


def build(folder: Path, own: Path, packages: Path) -> None:
    model_tokenizer = sk.load_model().tokenizer
    versions = package_text.fetch(packages)
    print("reading packages", flush=True)
    kept, apart = (
        pd.concat([carried(folder, packages, s, model_tokenizer) for s in sources], ignore_index=True)
        for sources in (package_text.SOURCES, package_text.OTHER_PROSE)
    )
    text = pd.concat([written_by_the_model(own), kept, apart], ignore_index=True)
    text[LABELS] = text[LABELS].fillna("")
    n_read = len(text)
    text = text[~text["text"].map(plain).duplicated()].reset_index(drop=True)
    ids = model_tokenizer(text["text"].tolist(), add_special_tokens=False, verbose=False)["input_ids"]
    text["n_tokens"] = [len(i) for i in ids]
    chance = text["text"].map(lambda t: draw(t, "held out"))
    held = (chance < HELD_OUT) | (chance == chance.groupby(text["source"]).transform("min"))  # one at the least
    other = text["source"].isin([s.name for s in package_text.OTHER_PROSE])
    judged = set().union(*map(shingles, text.loc[held | other, "text"]))
    shared = pd.Series(0.0, index=text.index)
    for i in text.index[~held & ~other]:
        if mine := shingles(text.at[i, "text"]):
            shared[i] = len(mine & judged) / len(mine)
    near = shared > SHARED
    parts = {"mixture": text[~held & ~other & ~near], "held_out": text[held & ~other], "other": text[other]}
    for name, part in parts.items():
        with atomic_write(folder / f"{name}.parquet") as path:
            spread(part)[["text", *LABELS, "n_tokens"]].to_parquet(path, index=False)
    table = pd.concat(
        {n: p.groupby("source", sort=False)["n_tokens"].agg(["size", "sum"]) for n, p in parts.items()}, axis=1
    )
    table.columns = [f"{n}_{what}" for n in parts for what in ("documents", "tokens")]
    labels = text.groupby("source", sort=False)[["kind", "language"]].first()
    labels.loc[list(OWN), "language"] = "en, some others"
    table = labels.join(table.fillna(0).astype(int))
    seen = set().union(*map(shingles, parts["mixture"]["text"]))
    leak = [len(m & seen) / len(m) > SHARED for t in parts["held_out"]["text"] if (m := shingles(t))]
    write_json(
        folder / "texts.json",
        {
            "sources": table.reset_index().to_dict("records"),
            "python": platform.python_version(),
            "packages": versions,
            "doubles_dropped": n_read - len(text),
            "near_doubles_dropped": int(near.sum()),
            "held_out_mostly_seen": sum(leak) / max(len(leak), 1),
        },
    )
    print(table.to_string())
    print(table.sum(numeric_only=True).to_frame("in all").T.to_string())
    print(
        f"left out: {n_read - len(text)} doubles, {near.sum()} documents of the mixture that mostly stand in the text "
        f"to be judged on; {sum(leak)} of {len(leak)} held-out documents mostly stand in the mixture"
    )


def load(folder: Path, name: str, n_tokens: int | None = None) -> sk.Corpus:
    """One of the texts as a corpus, or about its first `n_tokens` tokens, every source in proportion."""
    frame = pd.read_parquet(folder / f"{name}.parquet")
    if n_tokens is not None:
        frame = frame[frame["n_tokens"].cumsum() - frame["n_tokens"] < n_tokens]
    return sk.load_corpus(frame, labels=LABELS, name=name)


def evidence(folder: Path, n_tokens: int, wanted: Sequence[Callable[[pd.Series], bool]] = ()) -> sk.Corpus:
    """All held-out documents, and of the mixture as much as makes `n_tokens` tokens.

    `wanted` says of a document whether it holds a concept: of each concept N_WANTED documents of the mixture come
    first, as far as half of the tokens go, so that there is something to score. That raises base rates.
    """
    held = pd.read_parquet(folder / "held_out.parquet")
    more = pd.read_parquet(folder / "mixture.parquet")
    held = held[held["n_tokens"].cumsum() - held["n_tokens"] < n_tokens]
    short = more[more["n_tokens"] <= 2 * LONG]
    taken = [short.index[short.apply(holds, axis=1)][:N_WANTED] for holds in wanted]
    first = list(dict.fromkeys(i for group in zip_longest(*taken) for i in group if i is not None))
    chosen = more.loc[first]
    chosen = chosen[chosen["n_tokens"].cumsum() <= n_tokens / 2]
    more = pd.concat([chosen, more.drop(chosen.index)])
    more = more[more["n_tokens"].cumsum() <= n_tokens - held["n_tokens"].sum()]
    return sk.load_corpus(pd.concat([held, more], ignore_index=True), labels=LABELS, name="evidence")
