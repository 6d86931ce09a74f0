"""Where documents come from: the packaged text, files, folders, Hugging Face datasets, and anything iterable.

Every source ends as rows of a mapping with one text column; `rows.make_document` alone turns a row into a Document.
Sources up to 64 MB are read at once, so that a mistake in them shows where they are loaded; larger ones are streamed.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
from torch import Tensor

from ..arguments import check_path
from ..errors import ConfigError, DataError, FileError
from .documents import Corpus, digest_of
from .file_text import check_encoding
from .files import file_rows, find_files
from .hub_datasets import dataset_rows, is_dataset, is_saved, load_from_hub, one_split, open_saved, size_of
from .rows import Row, make_document

_IN_MEMORY_BYTES = 64_000_000
AnyCorpus: TypeAlias = Any
"""A Corpus, or anything that `load_corpus` takes: a function passes it through `as_corpus`."""
ACCEPTED = "a Corpus, 'demo', a file, folder, glob or dataset name, a frame or dataset, texts, mappings or token ids"


def load_corpus(
    source: Any,
    *,
    text: str = "text",
    labels: Sequence[str] | None = None,
    split: str | None = None,
    encoding: str | None = None,
    streaming: bool = True,
    name: str | None = None,
) -> Corpus:
    """A corpus of documents with labels.

    `source` is one of
    - "demo", the text that comes with saekit;
    - a file: .txt (one document), .jsonl, .json, .csv, .tsv or .parquet (a document a row), each also compressed as
      .gz, .bz2, .xz or .zst; a folder, searched through and read in sorted order; or a glob such as "texts/**/*.txt". A
      .txt file found in a folder is labelled `file`;
    - a Hugging Face dataset, "owner/name" or "owner/name:configuration"; "hf:" before the name says so where a folder
      of that name exists; a folder that `save_to_disk` wrote; or a Dataset, IterableDataset or a dictionary of them.
      Class labels become their names;
    - a frame, a series, a table, or any iterable of texts or of mappings with a text and labels, or a function that
      returns one. A generator can be read once only.

    A text is a string; a conversation, a list of turns {"role": ..., "content": ...}, which every model reads in its
    own chat template; or a list of token ids, which are kept as they are.

    `text` names the text column, or a field in it as "message.content" (through a list: joined with line breaks).
    `labels` are those to keep as labels (None: every column of strings, numbers or booleans). `split` is that of a
    dataset (None: "train", or the only one); of files, those whose name or folder says so (None: all). `encoding` is
    that of files of text (None: as the byte order mark says, else UTF-8). `streaming=False` reads the whole source into
    memory.

    Raises FileError, UnknownNameError (a column, dataset or split) or DataError (empty, malformed, not text).

    >>> sk.load_corpus(["The bridge opened in 1937."])
    Corpus 'documents': 1 document
      first: The bridge opened in 1937.
    """
    if isinstance(source, Corpus):
        return source
    if encoding is not None:
        check_encoding(encoding)
    if isinstance(labels, str):
        labels = [labels]
    for what, word in (("text", text), *(("a label", label) for label in _listed(labels)), ("name", name or "")):
        if not isinstance(word, str):
            raise ConfigError(f"{what} is no name", got=f"{word!r:.80}", accepted="a string", fix='text="text"')
    rows, default, in_memory = _rows(source, text, labels, split, encoding, streaming)

    def document(row: Row) -> Any:
        return make_document(row[1], row[0], text, labels)

    names: tuple[str, ...] = ()
    digest = None
    if not in_memory:
        first = rows.head if isinstance(rows, _Once) else next(iter(rows()), None)
        head = [document(first)] if first else []
        names = tuple(head[0].labels) if head else ()
        digest = partial(digest_of, name or default, head) if isinstance(rows, _Once) else None
    corpus = Corpus(
        lambda: enumerate(map(document, rows())),
        name=name or default,
        label_names=names,
        in_memory=in_memory,
        digest=digest,
    )
    if in_memory and len(corpus) == 0:
        raise DataError(f"corpus {corpus.name!r} holds no document", got=default, fix="check the source")
    return corpus


def as_corpus(source: Any, *, also: str = "") -> Corpus:
    """What a function was given as its corpus, as a Corpus: everything that `load_corpus` takes with its defaults.

    One string is a corpus only where it names one, so that a text is not taken for a dataset's name. `also` says what
    else the function accepts. DataError for anything else.

    >>> from saekit.corpus import as_corpus
    >>> len(as_corpus(["one text", "another"]))
    2
    """
    if isinstance(source, Corpus):
        return source
    named = isinstance(source, str) and (
        source == "demo" or source.startswith("hf:") or "/" in source or glob.has_magic(source)
    )
    if isinstance(source, str) and not named and not (len(source) < 200 and Path(source).expanduser().exists()):
        raise DataError(
            "one string is not a corpus: its documents would be single letters",
            got=source[:80],
            accepted=ACCEPTED + (also and f"; {also}"),
            fix="pass [text], or sk.load_corpus(name) for a dataset of the hub",
        )
    if not _is_source(source):
        raise _not_a_corpus(source, also)
    return load_corpus(source)


def _listed(labels: Any) -> Sequence[Any]:
    if labels is None:
        return ()
    if not isinstance(labels, Iterable):
        raise ConfigError("labels is no list of names", got=f"{labels!r:.80}", accepted='names, such as ["topic"]')
    return list(labels)


def _is_source(source: Any) -> bool:
    if isinstance(source, str | Path) or is_dataset(source):
        return True
    return not isinstance(source, Mapping | bytes) and (callable(source) or isinstance(source, Iterable))


def _not_a_corpus(source: Any, also: str = "") -> DataError:
    return DataError(
        "this is not a corpus",
        got=f"{type(source).__name__}: {source!r:.80}",
        accepted=ACCEPTED + (also and f"; {also}"),
        fix="put a single document in a list: [document]",
    )


def _rows(
    source: Any, text: str, labels: Sequence[str] | None, split: str | None, encoding: str | None, streaming: bool
) -> tuple[Callable[[], Iterable[Row]], str, bool]:
    """(a function that opens the rows, the source's name, whether to read them into memory)."""
    if not _is_source(source):
        raise _not_a_corpus(source)
    if isinstance(source, str) and source.startswith("hf:"):
        return _hub_rows(source[3:], text, labels, split, streaming)
    if isinstance(source, str | Path):
        try:
            check_path("the source", source)
        except FileError as e:
            fix = "to use this as text, pass it in a list: load_corpus([text])"
            raise FileError(f"{e.what}; is it a text?", got=e.got, accepted=ACCEPTED, fix=fix) from None
        path = Path(source).expanduser()
        if is_saved(path):
            return _dataset_rows(open_saved(path), path.name, text, labels, split, streaming)
        found = find_files(str(source), split)
        if found is None:
            return _hub_rows(str(source), text, labels, split, streaming)
        whole = sum(path.stat().st_size for path, _ in found) <= _IN_MEMORY_BYTES or not streaming
        title = source if source == "demo" else Path(source).name or str(source)
        return lambda: file_rows(found, encoding, text, whole=whole), str(title), whole
    if is_dataset(source):
        return _dataset_rows(source, "dataset", text, labels, split, streaming)
    if split is not None:
        raise ConfigError(
            "only datasets and files have splits",
            got=f"split={split!r} of a {type(source).__name__}",
            accepted="None for everything in memory",
            fix="leave split out; corpus.split() makes a held-out part",
        )
    if isinstance(source, pd.DataFrame | pa.Table):
        records = source.to_dict("records") if isinstance(source, pd.DataFrame) else source.to_pylist()
        return lambda: ((f"row {i}", row) for i, row in enumerate(records)), "frame", True
    if callable(source) and not isinstance(source, Iterable):
        return lambda: _numbered(source()), "documents", not streaming
    if iter(source) is source:
        return _Once(_numbered(source)), "documents", not streaming
    held = isinstance(source, Sequence | np.ndarray | pd.Series | Tensor)
    return lambda: _numbered(source), "documents", held or not streaming


def _hub_rows(
    name: str, text: str, labels: Sequence[str] | None, split: str | None, streaming: bool
) -> tuple[Callable[[], Iterable[Row]], str, bool]:
    return dataset_rows(load_from_hub(name, split, streaming), name, text, labels), name, not streaming


def _dataset_rows(
    dataset: Any, name: str, text: str, labels: Sequence[str] | None, split: str | None, streaming: bool
) -> tuple[Callable[[], Iterable[Row]], str, bool]:
    dataset = one_split(dataset, split, name)
    in_memory = not streaming or size_of(dataset) <= _IN_MEMORY_BYTES
    return dataset_rows(dataset, name, text, labels), name, in_memory


def _numbered(items: Iterable[object]) -> Iterator[Row]:
    return ((f"document {i}", item) for i, item in enumerate(items))


class _Once:
    """The rows of an iterator, which can be opened once."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self.head = next(rows, None)
        self._rest: Iterator[Row] | None = rows

    def __call__(self) -> Iterator[Row]:
        if self._rest is None:
            raise DataError(
                "this corpus was made from a generator, which can be read once only, and it has been read",
                fix="pass a list, a function that returns a new generator, or streaming=False to keep it in memory",
            )
        rows, self._rest = self._rest, None
        return chain([self.head] if self.head else [], rows)
