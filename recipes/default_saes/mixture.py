"""The text that the default SAEs are trained and evaluated on: gathered, labelled, freed of duplicates and split.

`build` writes mixture.parquet (training), held_out.parquet and other.parquet (prose of kinds that the mixture does not
hold), and texts.json, which says what is in them. A document is held out by a hash of its text, see `recipes.split`; a
training document that mostly repeats judged text is left out.
"""

from __future__ import annotations

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
from ..split import HELD_OUT, hash_fraction, held_out_fraction, normalised
from . import package_text

LABELS = ["source", "kind", "language", "topic", "group", "style"]
N_SHINGLE_WORDS, MAX_OVERLAP = 13, 0.5
"""A training document is left out when more than this fraction of its runs of 13 words occurs in judged text."""
N_PER_CONCEPT, LONGEST = 30, 1_000
"""Documents of a concept that are put into the evidence first, and the most tokens that one of them may have."""
N_RARE = 12
"""Documents of packages for a concept that is rare in the demo corpus."""
OWN_SOURCES = ("own", "demo")
"""Sources that the model wrote: the only ones whose text is shown."""
FUNCTION_WORDS = {
    "en": "the and of is that with for was this have",
    "de": "der die und das ist nicht ein eine mit den",
    "fr": "le les des est une dans pour qui sur pas",
    "es": "el los que una por con las del para es",
    "it": "il che di una per sono della con non gli",
    "pt": "os que uma com não para são da em um",
}


def language_of(text: str) -> str:
    """The language whose function words are commonest in the reply."""
    words = re.findall(r"[^\W\d_]+", text.split("<|im_start|>assistant")[-1].lower())
    counts = {code: sum(words.count(w) for w in line.split()) for code, line in FUNCTION_WORDS.items()}
    return max(counts, key=lambda code: counts[code])


def demo_text() -> pd.DataFrame:
    """The documents of the demo corpus with the labels of the mixture."""
    demo = sk.load_corpus("demo").to_frame().assign(source="demo", kind="model")
    demo["topic"] = [TOPICS[topic][1] for topic in demo["topic"]]
    return with_language(demo)


def demo(n_documents: int | None = None) -> sk.Corpus:
    """The demo corpus, or its first documents, with the labels of the mixture. It is in random order."""
    return sk.load_corpus(demo_text()[:n_documents], labels=LABELS, name="demo")


def with_language(own: pd.DataFrame) -> pd.DataFrame:
    """The same documents with their language: that of the function words for those about languages, else English."""
    languages = [language_of(t) if g == "language" else "en" for t, g in zip(own["text"], own["group"], strict=True)]
    return own.assign(language=languages)


def own_text(folder: Path) -> pd.DataFrame:
    """The text that the model wrote, the demo corpus included, with one set of topic names."""
    parts = [pd.read_parquet(path).assign(source="own") for path in sorted(folder.glob("part-*.parquet"))]
    return with_language(pd.concat([*parts, demo_text()], ignore_index=True).assign(kind="model"))


def package_documents(folder: Path, packages: Path, source: package_text.Source, tokenizer: Any) -> pd.DataFrame:
    """A source's documents, read from its packages the first time and from `folder`/sources afterwards."""
    path = folder / "sources" / f"{source.name}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = pd.DataFrame(package_text.documents(packages, source, tokenizer))
        with atomic_write(path) as part:
            found.to_parquet(part)
        print(f"  {source.name}: {len(found):,} documents", flush=True)
    return pd.read_parquet(path)


def spread(frame: pd.DataFrame) -> pd.DataFrame:
    """The same documents in an order in which every prefix holds every source in proportion."""
    order = pd.Series([hash_fraction(text, "order") for text in frame["text"]], index=frame.index)
    place = order.groupby(frame["source"]).rank() / frame.groupby("source")["text"].transform("size")
    return frame.loc[pd.DataFrame({"place": place, "order": order}).sort_values(["place", "order"]).index]


def shingles(text: str) -> set[int]:
    """Hashes of the text's runs of N_SHINGLE_WORDS words."""
    words = normalised(text).lower().split()
    return {hash(tuple(words[i : i + N_SHINGLE_WORDS])) for i in range(len(words) - N_SHINGLE_WORDS + 1)}


def overlap(texts: pd.Series, others: pd.Series) -> pd.Series:
    """For each text, the fraction of its shingles that occur in any of the others."""
    known = set().union(*map(shingles, others))
    found = [shingles(text) for text in texts]
    return pd.Series([len(own & known) / max(len(own), 1) for own in found], index=texts.index, dtype=float)


def build(folder: Path, own: Path, packages: Path) -> None:
    """Gathers the text of `own` and of `packages`, which are fetched where they are missing, and writes its parts."""
    tokenizer = sk.load_model().tokenizer
    versions = package_text.fetch(packages)
    print("reading packages", flush=True)
    mixed, apart = (
        pd.concat([package_documents(folder, packages, s, tokenizer) for s in sources], ignore_index=True)
        for sources in (package_text.SOURCES, package_text.OTHER_PROSE)
    )
    text = pd.concat([own_text(own), mixed, apart], ignore_index=True)
    text[LABELS] = text[LABELS].fillna("")
    n_read = len(text)
    text = text[~text["text"].map(normalised).duplicated()].reset_index(drop=True)
    ids = tokenizer(text["text"].tolist(), add_special_tokens=False, verbose=False)["input_ids"]
    text["n_tokens"] = [len(i) for i in ids]
    fraction = text["text"].map(held_out_fraction)
    held = (fraction < HELD_OUT) | (fraction == fraction.groupby(text["source"]).transform("min"))  # at least one
    other = text["source"].isin([s.name for s in package_text.OTHER_PROSE])
    train = ~held & ~other
    near = train & (overlap(text.loc[train, "text"], text.loc[~train, "text"]) > MAX_OVERLAP).reindex(
        text.index, fill_value=False
    )
    parts = {"mixture": text[train & ~near], "held_out": text[held & ~other], "other": text[other]}
    for name, part in parts.items():
        with atomic_write(folder / f"{name}.parquet") as path:
            spread(part)[["text", *LABELS, "n_tokens"]].to_parquet(path, index=False)
    seen = overlap(parts["held_out"]["text"], parts["mixture"]["text"]) > MAX_OVERLAP
    has_shingles = parts["held_out"]["text"].map(lambda t: bool(shingles(t)))
    table = summary(text, parts)
    write_json(
        folder / "texts.json",
        {
            "sources": table.reset_index().to_dict("records"),
            "python": platform.python_version(),
            "packages": versions,
            "doubles_dropped": n_read - len(text),
            "near_doubles_dropped": int(near.sum()),
            "held_out_mostly_seen": int(seen.sum()) / max(int(has_shingles.sum()), 1),
        },
    )
    print(table.to_string())
    print(table.sum(numeric_only=True).to_frame("in all").T.to_string())
    print(
        f"left out: {n_read - len(text)} duplicates, {near.sum()} training documents that mostly repeat judged text; "
        f"{seen.sum()} of {has_shingles.sum()} held-out documents mostly repeat training text"
    )


def summary(text: pd.DataFrame, parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A row per source: its kind and language, and its documents and tokens in each part."""
    counts = pd.concat(
        {name: part.groupby("source", sort=False)["n_tokens"].agg(["size", "sum"]) for name, part in parts.items()},
        axis=1,
    )
    counts.columns = pd.Index([f"{name}_{what}" for name in parts for what in ("documents", "tokens")])
    labels = text.groupby("source", sort=False)[["kind", "language"]].first()
    labels.loc[labels.index.isin(OWN_SOURCES), "language"] = "en, some others"
    return labels.join(counts.fillna(0).astype(int))


def load(folder: Path, name: str, n_tokens: int | None = None) -> sk.Corpus:
    """One of the parts as a corpus, or about its first `n_tokens` tokens, every source in proportion."""
    frame = pd.read_parquet(folder / f"{name}.parquet")
    if n_tokens is not None:
        frame = frame[frame["n_tokens"].cumsum() - frame["n_tokens"] < n_tokens]
    return sk.load_corpus(frame, labels=LABELS, name=name)


def rare_in_demo(folder: Path, wanted: Sequence[Callable[[pd.Series], bool]]) -> sk.Corpus:
    """N_RARE documents of packages for each concept that the demo corpus has too few of, held-out ones first."""
    parts = [pd.read_parquet(folder / f"{name}.parquet") for name in ("held_out", "mixture")]
    frame = pd.concat([part[~part["source"].isin(OWN_SOURCES)] for part in parts], ignore_index=True)
    frame = frame[frame["n_tokens"] <= LONGEST]
    chosen = frame.loc[of_concepts(frame, wanted, N_RARE)]
    return sk.load_corpus(chosen.reset_index(drop=True), labels=LABELS, name="packages")


def of_concepts(frame: pd.DataFrame, wanted: Sequence[Callable[[pd.Series], bool]], n: int) -> list[int]:
    """The first n documents of each concept, by turns."""
    by_concept = [frame.index[frame.apply(holds, axis=1)][:n] for holds in wanted]
    return list(dict.fromkeys(int(i) for group in zip_longest(*by_concept) for i in group if i is not None))


def evidence(folder: Path, n_tokens: int, wanted: Sequence[Callable[[pd.Series], bool]] = ()) -> sk.Corpus:
    """All held-out documents, and of the mixture as much as makes `n_tokens` tokens.

    Each function of `wanted` says whether a document holds a concept. N_PER_CONCEPT documents of the mixture for each
    concept come first, up to half of the tokens, so that every concept can be scored; this raises base rates.
    """
    held = pd.read_parquet(folder / "held_out.parquet")
    more = pd.read_parquet(folder / "mixture.parquet")
    held = held[held["n_tokens"].cumsum() - held["n_tokens"] < n_tokens]
    short = more[more["n_tokens"] <= LONGEST]
    first = of_concepts(short, wanted, N_PER_CONCEPT)
    chosen = more.loc[first]
    chosen = chosen[chosen["n_tokens"].cumsum() <= n_tokens / 2]
    more = pd.concat([chosen, more.drop(chosen.index)])
    more = more[more["n_tokens"].cumsum() <= n_tokens - held["n_tokens"].sum()]
    return sk.load_corpus(pd.concat([held, more], ignore_index=True), labels=LABELS, name="evidence")
