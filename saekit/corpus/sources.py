"""Where documents come from: the packaged text, files, folders, Hugging Face datasets, and anything iterable.

Every source ends as rows of a mapping with one text column; `_document` alone turns a row into a Document. Local files
up to 64 MB are read at once, so that a mistake in them shows where they are loaded; larger ones are streamed.
"""

from __future__ import annotations

import difflib
import glob
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError, FileError, UnknownNameError, disk_errors, unknown_name
from .documents import Corpus, Document

SUFFIXES = (".txt", ".jsonl", ".parquet")
_IN_MEMORY_BYTES = 64_000_000
_DATASET_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")

_Row = tuple[str, object]
"""(where the row is, for messages; the row: a str, a mapping or a Document)"""


def load_corpus(
    source: Any,
    *,
    text: str = "text",
    labels: Sequence[str] | None = None,
    split: str = "train",
    streaming: bool = True,
    name: str | None = None,
) -> Corpus:
    """A corpus of documents with labels.

    `source` is one of
    - "demo", the text that comes with saekit;
    - a .txt file (one document), a .jsonl file (one a line) or a .parquet file (one a row); a folder, searched through
      and read in sorted order; or a glob such as "texts/**/*.txt". A .txt file found in a folder is labelled `file`;
    - a Hugging Face dataset, "owner/name" or "owner/name:configuration", of which `split` is read; "hf:" before the
      name says so where a folder of that name exists. Class labels become their names;
    - a frame, or any iterable of strings or of mappings with a text and labels, or a function that returns one. A
      generator can be read once only.

    `text` names the text column; `labels` those to keep as labels (None: every column of strings, numbers or booleans).
    `streaming=False` reads the whole source into memory.

    Raises FileError, UnknownNameError (a column, dataset or split) or DataError (empty, malformed, not text).

    >>> sk.load_corpus(["The bridge opened in 1937."])
    Corpus 'documents': 1 document
      first: The bridge opened in 1937.
    """
    if isinstance(source, Corpus):
        return source
    rows, default, in_memory = _rows(source, split, streaming)

    def document(row: _Row) -> Document:
        return _document(row[1], row[0], text, labels)

    names: tuple[str, ...] = ()
    if not in_memory:
        first = rows.head if isinstance(rows, _Once) else next(iter(rows()), None)
        names = tuple(document(first).labels) if first else ()
    corpus = Corpus(
        lambda: enumerate(map(document, rows())), name=name or default, label_names=names, in_memory=in_memory
    )
    if in_memory and len(corpus) == 0:
        raise DataError(f"corpus {corpus.name!r} holds no document", got=default, fix="check the source")
    return corpus


def _rows(source: Any, split: str, streaming: bool) -> tuple[Callable[[], Iterable[_Row]], str, bool]:
    """(a function that opens the rows, the source's name, whether to read them into memory)."""
    if isinstance(source, str) and source.startswith("hf:"):
        return _dataset(source[3:], split, streaming), source[3:], not streaming
    if isinstance(source, str | Path):
        found = _files(str(source))
        if found is None:
            return _dataset(str(source), split, streaming), str(source), not streaming
        small = sum(path.stat().st_size for path, _ in found) <= _IN_MEMORY_BYTES
        title = source if source == "demo" else Path(source).name or str(source)
        return lambda: _file_rows(found), str(title), small or not streaming
    if isinstance(source, pd.DataFrame):
        records = source.to_dict("records")
        return lambda: ((f"row {i}", row) for i, row in enumerate(records)), "frame", True
    if isinstance(source, Mapping | bytes) or not (callable(source) or isinstance(source, Iterable)):
        raise DataError(
            "this is not a corpus",
            got=f"{type(source).__name__}: {source!r:.80}",
            accepted="'demo', a file, folder, glob or dataset name, a frame, an iterable of strings or mappings",
            fix="put a single document in a list: [document]",
        )
    if callable(source) and not isinstance(source, Iterable):
        return lambda: _numbered(source()), "documents", not streaming
    if iter(source) is source:
        return _Once(_numbered(source)), "documents", not streaming
    return (
        lambda: _numbered(source),
        "documents",
        isinstance(source, Sequence | np.ndarray | pd.Series) or not streaming,
    )


def _numbered(items: Iterable[object]) -> Iterator[_Row]:
    return ((f"document {i}", item) for i, item in enumerate(items))


class _Once:
    """The rows of an iterator, which can be opened once."""

    def __init__(self, rows: Iterator[_Row]) -> None:
        self.head = next(rows, None)
        self._rest: Iterator[_Row] | None = rows

    def __call__(self) -> Iterator[_Row]:
        if self._rest is None:
            raise DataError(
                "this corpus was made from a generator, which can be read once only, and it has been read",
                fix="pass a list, a function that returns a new generator, or streaming=False to keep it in memory",
            )
        rows, self._rest = self._rest, None
        return chain([self.head] if self.head else [], rows)


# ---- files --------------------------------------------------------------------------------------------------------


def _files(source: str) -> list[tuple[Path, str | None]] | None:
    """The files `source` means, each with the name it is labelled with; None when it can only be a dataset's name."""
    if source == "demo":
        return [(Path(str(resources.files("saekit") / "data" / "demo_corpus.parquet")), None)]
    path = Path(source).expanduser()
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise FileError(
                f"cannot read documents from {path.name}",
                got=path.suffix or "no extension",
                accepted=", ".join(SUFFIXES),
                fix="convert it, or pass an iterable of strings",
            )
        return [(path, None)]
    if path.is_dir():
        root, matches = (
            path,
            [p for p in path.rglob("*") if not any(q.startswith(".") for q in p.relative_to(path).parts)],
        )
    elif glob.has_magic(source):
        root = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
        matches = [Path(p) for p in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - Path's ** skips files
    elif path.suffix.lower() in SUFFIXES or not _DATASET_NAME.fullmatch(source):
        raise _no_such_file(source, path)
    else:
        return None
    files = sorted(p for p in matches if p.is_file() and p.suffix.lower() in SUFFIXES)
    if not files:
        seen = sorted({p.suffix or p.name for p in matches if p.is_file()})
        raise FileError(
            f"no documents in {source}",
            got=", ".join(seen) or "no files",
            accepted="files ending in " + ", ".join(SUFFIXES),
            fix="check the folder or the pattern",
        )
    return [(p, p.relative_to(root).as_posix()) for p in files]


def _no_such_file(source: str, path: Path) -> FileError:
    beside: list[str] = []
    if len(source) < 200 and path.parent.is_dir():
        beside = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1)
    return FileError(
        f"no file or folder {source[:200]!r}" + (f"; did you mean {beside[0]!r}?" if beside else ""),
        got=source,
        accepted="'demo', a file, folder or glob, or the name of a Hugging Face dataset",
        fix="check the path; to use this as text, pass it in a list",
    )


def _file_rows(files: list[tuple[Path, str | None]]) -> Iterator[_Row]:
    readers = {".txt": _txt_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
    for path, label in files:
        with disk_errors(path):
            yield from readers[path.suffix.lower()](path, label)


def _txt_rows(path: Path, label: str | None) -> Iterator[_Row]:
    yield path.name, Document(_utf8(path, path.read_bytes()), {} if label is None else {"file": label})


def _jsonl_rows(path: Path, label: str | None) -> Iterator[_Row]:
    with path.open("rb") as f:
        for n, line in enumerate(f, 1):
            if not line.strip():
                continue
            where = f"{path.name}, line {n}"
            try:
                row = json.loads(_utf8(where, line))
            except json.JSONDecodeError as e:
                raise DataError(
                    f"{where} is not valid JSON: {e.msg} at column {e.colno}",
                    got=line[:80].decode("utf8", "replace").strip(),
                    accepted="one JSON object a line",
                    fix="mend or remove that line",
                ) from e
            if not isinstance(row, dict):
                raise DataError(f"{where} is not a JSON object", got=line[:80].decode("utf8"), accepted='{"text": ...}')
            yield where, row


def _parquet_rows(path: Path, label: str | None) -> Iterator[_Row]:
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as e:
        raise FileError(f"{path.name} is not a parquet file, or is damaged", got=e, fix="write it again") from e
    with file:
        row = 0
        for batch in file.iter_batches(batch_size=1024):
            for values in batch.to_pylist():
                yield f"{path.name}, row {row}", values
                row += 1


def _utf8(where: object, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise DataError(
            f"{where} is not UTF-8: byte {e.start} is 0x{data[e.start]:02X}", accepted="text in UTF-8", fix="convert it"
        ) from e


# ---- Hugging Face datasets ----------------------------------------------------------------------------------------


def _dataset(name: str, split: str, streaming: bool) -> Callable[[], Iterator[_Row]]:
    """Opens a Hugging Face dataset; its class labels come as their names."""
    import datasets  # a second and a half to import

    path, _, configuration = name.partition(":") if not Path(name).exists() else (name, "", "")
    try:
        dataset = datasets.load_dataset(path, configuration or None, split=split, streaming=streaming)
    except datasets.exceptions.DatasetNotFoundError as e:
        raise UnknownNameError(
            f"no dataset {path!r} on the Hugging Face hub, and no file or folder of that name",
            got=name,
            accepted="'demo', a file, folder or glob, owner/name, or owner/name:configuration",
            fix="check the name; to use this as text, pass it in a list",
        ) from e
    except ValueError as e:  # an unknown split or configuration, which the message lists
        raise UnknownNameError(
            f"cannot read split {split!r} of dataset {path!r}: {e}",
            got=name,
            fix="pass split=..., or name the configuration as owner/name:configuration",
        ) from e
    except OSError as e:
        raise FileError(
            f"cannot reach dataset {path!r}, and there is no file or folder of that name",
            got=e,
            fix="check the name and the network",
        ) from e
    classes = {
        column: feature.int2str
        for column, feature in (dataset.features or {}).items()
        if isinstance(feature, datasets.ClassLabel)
    }

    def rows() -> Iterator[_Row]:
        for i, row in enumerate(dataset):
            named = {c: to_name(row[c]) for c, to_name in classes.items() if row.get(c) not in (None, -1)}
            yield f"row {i} of {name}", {**row, **named}

    return rows


# ---- rows ---------------------------------------------------------------------------------------------------------


def _document(row: object, where: str, text: str, labels: Sequence[str] | None) -> Document:
    """One row as a document; every check of a row is here."""
    if isinstance(row, Document):
        row = {text: row.text, **row.labels}
    if isinstance(row, Mapping):
        if text not in row:
            raise unknown_name(f"text column of {where}:", text, map(str, row), fix="pass text= with the column's name")
        value = row[text]
    else:
        value, row = row, {}
    if not isinstance(value, str):
        raise DataError(
            f"the text of {where} is not a string",
            got=f"{type(value).__name__}: {value!r:.80}",
            accepted="a string",
            fix="convert or drop it, or pass text= with another column's name",
        )
    for name in labels or ():
        if name not in row:
            raise unknown_name(f"label column of {where}:", name, (str(c) for c in row if c != text))
    kept = {
        str(c): v.item() if isinstance(v, np.generic) else v
        for c, v in row.items()
        if c != text and (labels is None or c in labels)
    }
    return Document(value, {c: v for c, v in kept.items() if isinstance(v, str | int | float | bool) and v == v})
