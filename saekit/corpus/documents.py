"""Documents with labels, and the collections of them that saekit reads.

`sources.py` reads the documents of a corpus and `windows.py` cuts them into windows of tokens.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import pandas as pd

from ..arguments import checks_arguments
from ..errors import ConfigError, DataError, LengthUnknownError, unknown_name
from .displays import corpus_html, document_html

Label = str | int | float | bool
Turn = Mapping[str, Any]
"""One turn of a conversation: "role", "content" and whatever else a chat template may read."""
_SHUFFLE_BUFFER = 10_000
_DIGEST_DOCUMENTS = 100


@dataclass(frozen=True)
class Document:
    """A text with what is known about it; or a conversation, or token ids, as the source has them."""

    text: str
    """What it says. Of a conversation its turns, a line each, for people; nothing where only token ids are known."""
    labels: Mapping[str, Label] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()
    """A conversation, each turn with its "role" and "content"; a model reads it in its own chat template."""
    token_ids: tuple[int, ...] | None = None
    """The ids of its tokens, which a model reads as they are, whatever `text` says."""

    _repr_html_ = document_html


_Items = Iterator[tuple[int, Document]]
"""Documents with their number in the source, which filters and shuffles leave as it was."""


class Corpus:
    """Documents to read as often as you like, in memory or as a stream that is opened again each time.

    Made by `load_corpus`. A corpus in memory has a length and checks filters at once; a stream checks them as it is
    read. Iterating gives `Document`s and raises DataError when there is none.

    >>> corpus = sk.load_corpus([{"text": "a bridge", "topic": "bridges"}, {"text": "a song", "topic": "music"}])
    >>> [document.text for document in corpus.where(topic="music")]
    ['a song']
    """

    def __init__(
        self,
        open_: Callable[[], Iterator[tuple[int, Document]]],
        *,
        name: str,
        label_names: Iterable[str] = (),
        in_memory: bool = False,
        n_splits: int = 0,
        digest: Callable[[], str] | None = None,
    ) -> None:
        self.name = name
        self._digest = digest
        self._items = list(open_()) if in_memory else None
        self._open = open_ if self._items is None else self._items.__iter__
        self._n_splits = n_splits
        names = dict.fromkeys(label_names)
        for _, document in self._items or ():
            names.update(dict.fromkeys(document.labels))
        self.label_names: tuple[str, ...] = tuple(names)
        """Labels that documents carry; for a stream, those it declares or its first document has."""

    def __iter__(self) -> Iterator[Document]:
        empty = True
        for _, document in self._open():
            empty = False
            yield document
        if empty:
            raise DataError(f"corpus {self.name!r} holds no document", got=0, fix="check the source and the filter")

    def __len__(self) -> int:
        if self._items is None:
            raise LengthUnknownError(
                f"the length of corpus {self.name!r} is not known: it is a stream",
                fix="take(n) of it, or load_corpus(..., streaming=False) to read it into memory",
            )
        return len(self._items)

    def __bool__(self) -> bool:
        return True

    @property
    def in_memory(self) -> bool:
        """Whether all documents are in memory; if not, each pass opens the source again."""
        return self._items is not None

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of what it holds: in memory every text and label, of a stream its name and beginning.

        Two corpora in memory have the same digest when they hold the same documents in the same order, whatever their
        names. For a stream the first 100 documents of its source are read, and filters and shuffles count by what they
        were asked for; of a generator, which can be read once only, the first document.

        >>> sk.load_corpus(["a", "b"]).digest == sk.load_corpus(iter(["a", "b"]), streaming=False).digest
        True
        """
        if self._items is None and self._digest is not None:
            return self._digest()
        return digest_of("" if self.in_memory else self.name, (document for _, document in self._first()))

    def _first(self) -> _Items:
        return self._open() if self.in_memory else islice(self._open(), _DIGEST_DOCUMENTS)

    def where(self, **labels: Label | Iterable[Label]) -> Corpus:
        """The documents whose labels have these values; for each label give a value or a collection of values.

        Raises UnknownNameError for a label or a value that no document has: at once for a corpus in memory, after a
        whole pass for a stream.

        >>> corpus = sk.load_corpus([{"text": "a", "style": "story"}, {"text": "b", "style": "chat"}])
        >>> len(corpus.where(style=["story", "chat"]))
        2
        """
        wanted = {name: _values(name, value) for name, value in labels.items()}

        def keep(items: _Items) -> _Items:
            seen: dict[str, set[Label]] = {}
            for number, document in items:
                for name, value in document.labels.items():
                    seen.setdefault(name, set()).add(value)
                if all(document.labels.get(name) in values for name, values in wanted.items()):
                    yield number, document
            for name, values in wanted.items():
                if name not in seen:
                    raise unknown_name("label", name, sorted(seen), fix="corpus.label_names lists the labels")
                for value in values - seen[name]:
                    raise unknown_name(f"value of label {name!r}:", value, sorted(map(str, seen[name])))

        return self._derive(keep, ", ".join(f"{name}={value!r}" for name, value in labels.items()))

    @checks_arguments
    def take(self, n: int) -> Corpus:
        """The first `n` documents, or all when there are fewer."""
        if n < 1:
            raise ConfigError("a corpus of no documents", got=n, accepted="an integer of at least 1")
        return self._derive(lambda items: islice(items, n), f"first {n:,}")

    @checks_arguments
    def shuffle(self, seed: int = 0) -> Corpus:
        """The same documents in another order, the same for the same seed.

        A stream is shuffled through a buffer of 10,000 documents.
        """

        def mix(items: _Items) -> _Items:
            generator = random.Random(seed)
            if self.in_memory:
                order = list(items)
                generator.shuffle(order)
                yield from order
                return
            buffer = list(islice(items, _SHUFFLE_BUFFER))
            for item in items:
                at = generator.randrange(len(buffer))
                buffer[at], out = item, buffer[at]
                yield out
            generator.shuffle(buffer)
            yield from buffer

        return self._derive(mix, f"shuffled by {seed}")

    @checks_arguments
    def split(self, fraction_held_out: float = 0.1, seed: int = 0) -> tuple[Corpus, Corpus]:
        """(training, held-out) documents: two corpora that share no document and together are the whole.

        A document's side follows from its number in the source and the seed alone, so it stays on its side when the
        corpus is filtered, shuffled or read again. A second split of a part draws again.

        >>> train, held_out = sk.load_corpus(["one", "two", "three", "four"]).split(0.5)
        >>> len(train) + len(held_out)
        4
        """
        check_fraction(fraction_held_out)

        def side(held_out: bool) -> Callable[[_Items], _Items]:
            def kept(number: int) -> bool:
                return is_held_out(number, fraction_held_out, seed, self._n_splits) == held_out

            return lambda items: (item for item in items if kept(item[0]))

        return (
            self._derive(side(False), "training part", self._n_splits + 1, f"{fraction_held_out} {seed}"),
            self._derive(side(True), "held-out part", self._n_splits + 1, f"{fraction_held_out} {seed}"),
        )

    def to_frame(self) -> pd.DataFrame:
        """One row for each document: its text and its labels; `turns` and `token_ids` where documents have them."""
        rows = [
            {
                "text": d.text,
                **({"turns": d.turns} if d.turns else {}),
                **({} if d.token_ids is None else {"token_ids": d.token_ids}),
                **d.labels,
            }
            for d in self
        ]
        return pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="document"))

    def _derive(
        self, transform: Callable[[_Items], _Items], suffix: str, n_splits: int | None = None, asked: str = ""
    ) -> Corpus:
        return Corpus(
            lambda: transform(self._open()),
            name=f"{self.name} ({suffix})",
            label_names=self.label_names,
            in_memory=self.in_memory,
            n_splits=self._n_splits if n_splits is None else n_splits,
            digest=lambda: _hash([self.digest, suffix, asked]),
        )

    def __repr__(self) -> str:
        if self._items is None:
            return f"Corpus {self.name!r}: a stream\n  labels: {', '.join(self.label_names) or 'none'}"
        n = len(self._items)
        lines = [f"Corpus {self.name!r}: {n:,} document{'s' * (n != 1)}"]
        for name in self.label_names:
            values = list(dict.fromkeys(str(d.labels[name]) for _, d in self._items if name in d.labels))
            shown = ", ".join(values[:6]) + (f", ... ({len(values):,} values)" if len(values) > 6 else "")
            lines.append(f"  {name}: {shown}")
        if self._items:
            first = " ".join(self._items[0][1].text[:400].split())
            lines.append(f"  first: {first[:87] + '...' if len(first) > 90 else first}")
        return "\n".join(lines)

    _repr_html_ = corpus_html


def _values(name: str, value: Label | Iterable[Label]) -> set[Label]:
    values = {value} if isinstance(value, str | int | float | bool) else set(value)
    if not values:
        raise ConfigError(f"no value for label {name!r}", got=value, accepted="a value or a collection of values")
    return values


def digest_of(name: str, documents: Iterable[Document]) -> str:
    """16 hexadecimal digits of a name and of everything in these documents."""
    return _hash(chain([name], (repr((d.text, sorted(d.labels.items()), d.turns, d.token_ids)) for d in documents)))


def _hash(parts: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part.encode("utf8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def is_held_out(number: int, fraction: float, seed: int, n_splits: int = 0) -> bool:
    """Whether document `number` is on the held-out side; `n_splits` counts the splits that came before."""
    digest = hashlib.blake2b(f"{seed}:{n_splits}:{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < fraction


def check_fraction(fraction_held_out: float) -> None:
    """ConfigError unless both sides of a split can have documents."""
    if not 0 < fraction_held_out < 1:
        raise ConfigError("fraction_held_out leaves one side empty", got=fraction_held_out, accepted="above 0, below 1")
