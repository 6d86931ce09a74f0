"""Documents in files: plain text, JSON, JSON lines, CSV and parquet, compressed or not, in any encoding.

Which files a name means, and the rows of each. Everything but .txt and .json is read a piece at a time.
"""

from __future__ import annotations

import difflib
import glob
import json
import re
import warnings
from collections.abc import Callable, Iterator
from importlib import resources
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import DataError, FileError, UnknownNameError, disk_errors
from ..json_files import damaged
from .documents import Document
from .file_text import COMPRESSIONS, open_bytes, open_text
from .hub_datasets import class_names
from .rows import Row

SUFFIXES = (".txt", ".jsonl", ".json", ".csv", ".tsv", ".parquet")
ACCEPTED = ", ".join(SUFFIXES) + ", each also with " + ", ".join(COMPRESSIONS)
_ROWS_PER_CHUNK = 10_000
_DATASET_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")
_SPLIT_WORDS = (("train", "training"), ("validation", "valid", "val", "dev"), ("test", "testing", "eval", "evaluation"))

Found = list[tuple[Path, str | None]]
"""Files, each with the name that its documents are labelled with."""


def find_files(source: str, split: str | None = None) -> Found | None:
    """The files `source` means, those of `split` if one is asked for; None when it can only be a dataset's name."""
    found = _all_files(source)
    if found is None or split is None:
        return found
    words = next((set(group) for group in _SPLIT_WORDS if split in group), {split})
    inside = [(path, name or path.name) for path, name in found]
    kept = [pair for pair, (_, name) in zip(found, inside, strict=True) if words & _words(name)]
    if not kept:
        known = {w for group in _SPLIT_WORDS for w in group} & set().union(*(_words(name) for _, name in inside))
        raise UnknownNameError(
            f"no file of {source} is of split {split!r}",
            got=", ".join(name for _, name in inside[:8]),
            accepted=", ".join(sorted(known)) or "no split: no file or folder here is named train, validation or test",
            fix="leave split= out to read every file",
        )
    return kept


def file_rows(files: Found, encoding: str | None, text: str, *, whole: bool) -> Iterator[Row]:
    """The rows of files one after another. `whole`: the types of CSV columns follow from the whole file."""
    for path, label in files:
        with disk_errors(path), damaged(path, fix="mend it, or fetch it again", also=(pa.ArrowException,)):
            match kind_of(path):
                case ".txt":
                    with open_text(path, encoding, newline="") as f:
                        yield path.name, Document(f.read(), {} if label is None else {"file": label})
                case ".jsonl":
                    yield from _jsonl_rows(path, encoding)
                case ".json":
                    yield from _json_rows(path, encoding)
                case ".csv" | ".tsv" as kind:
                    yield from _csv_rows(path, encoding, text, "," if kind == ".csv" else "\t", whole)
                case _:
                    yield from _parquet_rows(path)


def kind_of(path: Path) -> str:
    """The ending that says what a file holds, without that of its compression.

    >>> from saekit.corpus.files import kind_of
    >>> kind_of(Path("rows.CSV.gz"))
    '.csv'
    """
    name = path.name.lower()
    for ending in COMPRESSIONS:
        name = name.removesuffix(ending)
    return Path(name).suffix


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", name.lower()))


def _all_files(source: str) -> Found | None:
    if source == "demo":
        return [(Path(str(resources.files("saekit") / "data" / "demo_corpus.parquet")), None)]
    path = Path(source).expanduser()
    if path.is_file():
        if kind_of(path) not in SUFFIXES:
            raise FileError(
                f"cannot read documents from {path.name}",
                got=path.suffix or "no extension",
                accepted=ACCEPTED,
                fix="convert it, or pass an iterable of strings",
            )
        return [(path, None)]
    if path.is_dir():
        root = path
        matches = [p for p in path.rglob("*") if not any(q.startswith(".") for q in p.relative_to(path).parts)]
    elif glob.has_magic(source):
        root = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
        matches = [Path(p) for p in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - Path's ** skips files
    elif kind_of(path) in SUFFIXES or not _DATASET_NAME.fullmatch(source):
        raise _no_such_file(source, path)
    else:
        return None
    files = sorted(p for p in matches if p.is_file() and kind_of(p) in SUFFIXES)
    if not files:
        seen = sorted({p.suffix or p.name for p in matches if p.is_file()})
        raise FileError(
            f"no documents in {source}",
            got=", ".join(seen) or "no files",
            accepted="files ending in " + ACCEPTED,
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


# ---- rows of each kind --------------------------------------------------------------------------------------------


def _jsonl_rows(path: Path, encoding: str | None) -> Iterator[Row]:
    with open_text(path, encoding, newline="\n") as f:
        for n, line in enumerate(f, 1):
            if line.strip():
                where = f"{path.name}, line {n}"
                row = _parsed(line, where, "one JSON object a line")
                if not isinstance(row, dict):
                    raise DataError(f"{where} is not a JSON object", got=line[:80], accepted='{"text": ...}')
                yield where, row


def _json_rows(path: Path, encoding: str | None) -> Iterator[Row]:
    """A list of rows, an object that holds one such list, one object, or JSON lines by another name."""
    with open_text(path, encoding, newline="\n") as f:
        lines = (line for line in f if line.strip())
        first, second = next(lines, ""), next(lines, "")
        if second and _is_object(first) and _is_object(second):
            yield from _jsonl_rows(path, encoding)
            return
        value = _parsed("".join(chain([first, second], lines)), path.name, "a list of objects, or one object a line")
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list) and v and all(isinstance(i, dict) for i in v)]
        value = lists[0] if len(lists) == 1 and len(value) <= 3 and not _has_text(value) else [value]
    if not isinstance(value, list):
        raise DataError(f"{path.name} holds no rows", got=f"{value!r:.80}", accepted='[{"text": ...}, ...]')
    yield from ((f"{path.name}, row {i}", row) for i, row in enumerate(value))


def _has_text(value: dict[str, Any]) -> bool:
    return any(isinstance(v, str) and k == "text" for k, v in value.items()) or "messages" in value


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _parsed(text: str, where: str, accepted: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as e:
        at = f"column {e.colno}" if e.lineno == 1 else f"line {e.lineno}, column {e.colno}"
        raise DataError(
            f"{where} is not valid JSON: {e.msg} at {at}",
            got=text[:80].strip(),
            accepted=accepted,
            fix="mend or remove that line",
        ) from e
    except (ValueError, RecursionError) as e:  # numbers of thousands of digits, brackets a thousand deep
        raise DataError(f"{where} cannot be read: {e}", got=text[:80].strip(), accepted=accepted, fix="mend it") from e


def _csv_rows(path: Path, encoding: str | None, text: str, separator: str, whole: bool) -> Iterator[Row]:
    """Cells are read as they are written; columns of nothing but numbers, or of true and false, become such labels.
    Numbers of more than 18 digits, of which a float keeps only the first 16, stay text: they are names of something.

    What a column is follows from the whole file, or for a stream from its first 10,000 rows.
    """
    kinds: dict[str, Callable[[str], Any]] | None = None
    row = 0
    try:
        with open_text(path, encoding, newline="") as f, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            chunks = pd.read_csv(
                f, sep=separator, dtype=str, keep_default_na=False, index_col=False, chunksize=_ROWS_PER_CHUNK
            )
            with chunks:
                for chunk in [pd.concat(list(chunks), ignore_index=True)] if whole else chunks:
                    columns = {str(c): chunk[c].tolist() for c in chunk}
                    kinds = kinds or {c: str if c == text else _cell_kind(v) for c, v in columns.items()}
                    for cells in zip(*columns.values(), strict=True):
                        where = f"{path.name}, row {row}"
                        yield where, {c: _cell(v, kinds[c], c, where) for c, v in zip(columns, cells, strict=True)}
                        row += 1
    except pd.errors.EmptyDataError:
        return
    except (pd.errors.ParserError, pd.errors.ParserWarning) as e:
        raise DataError(
            f"{path.name} is not a table: {str(e).strip()}",
            accepted="rows with as many cells as the header has names, cells with separators or line breaks in quotes",
            fix="mend that line",
        ) from e


_CELLS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"true|false", re.I), lambda cell: cell.lower() == "true"),
    (re.compile(r"-?(0|[1-9]\d{0,17})"), int),
    (re.compile(r"-?(0|[1-9]\d{0,17})(\.\d*)?(e[-+]?\d+)?", re.I), float),
)


def _cell_kind(cells: list[Any]) -> Callable[[str], Any]:
    present = [c for c in cells if isinstance(c, str) and c]
    return next((kind for form, kind in _CELLS if present and all(map(form.fullmatch, present))), str)


def _cell(cell: Any, kind: Callable[[str], Any], column: str, where: str) -> Any:
    if kind is str or not isinstance(cell, str):
        return cell
    if not cell:
        return None
    if not next(form for form, k in _CELLS if k is kind).fullmatch(cell):
        raise DataError(
            f"column {column!r} is not of one type: {where} differs from the first {_ROWS_PER_CHUNK:,} rows",
            got=cell[:80],
            accepted="numbers, or true and false, throughout",
            fix="leave it out of labels=, or streaming=False to read the whole file first",
        )
    return kind(cell)


def _parquet_rows(path: Path) -> Iterator[Row]:
    with open_bytes(path) as f:
        try:
            file = pq.ParquetFile(f if f.seekable() else pa.BufferReader(f.read()))
        except pa.ArrowInvalid as e:
            raise FileError(f"{path.name} is not a parquet file, or is damaged", got=e, fix="write it again") from e
        names = class_names(file.schema_arrow)
        row = 0
        for batch in file.iter_batches(batch_size=1024):
            for values in batch.to_pylist():
                yield f"{path.name}, row {row}", values if not names else names(values)
                row += 1
