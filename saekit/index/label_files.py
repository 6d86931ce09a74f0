"""Labels as files: tables of our own (csv, jsonl, json, parquet), and explanations as Neuronpedia gives them.

Neuronpedia's are JSON objects, in a list or one a line, with `modelId`, `layer` (which names the SAE), `index` and
`description`, and mostly `typeName` and `explanationModelName`; its exports are folders of .jsonl.gz files.
Source: https://docs.neuronpedia.org.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from ..atomic_io import atomic_write
from ..errors import FileError, MismatchError, SaekitError, disk_errors
from ..json_files import damaged, parsed
from .labels import LONGEST_LABEL, LONGEST_NOTE, Label, make_label

SUFFIXES = (".csv", ".jsonl", ".json", ".parquet")
FEATURE, TEXT = ("feature", "index"), ("label", "description")
"""Fields that say which feature, and what it stands for: ours and Neuronpedia's."""
MAX_BYTES = 2_000_000_000
"""Of a file, unpacked."""


class Imported(NamedTuple):
    """Labels from a file, and the SAEs that they say they are of."""

    labels: list[Label]
    saes: list[str]


def write_labels(path: Path, labels: pd.DataFrame, sae_fingerprint: str) -> None:
    """Writes a table of labels, the SAE with each, in the format that the name ends in."""
    suffix = _suffix(path)
    frame = labels.assign(sae=sae_fingerprint)
    with atomic_write(path) as part:
        if suffix == ".csv":
            frame.to_csv(part, index=False)
        elif suffix == ".parquet":
            frame.to_parquet(part, index=False)
        else:
            text = frame.to_json(orient="records", lines=suffix == ".jsonl", force_ascii=False)
            content = text.encode("utf8")
            part.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def read_labels(path: Path, d_sae: int) -> Imported:
    """The labels in a file, or in the files of a folder; of several for one feature the last."""
    if not path.exists():
        raise FileError(f"no file {path}", got=path, accepted=f"a file of labels: {', '.join(SUFFIXES)}")
    files = sorted(p for p in path.iterdir() if _suffix_of(p) in SUFFIXES) if path.is_dir() else [path]
    if not files:
        raise FileError(f"{path} holds no labels", got="no such file in it", accepted=f"files: {', '.join(SUFFIXES)}")
    found: dict[int, Label] = {}
    saes: dict[str, None] = {}
    for file in files:
        for number, row in enumerate(_rows(file), 1):
            label = _label(row, f"{file}, row {number}", d_sae)
            found[label["feature"]] = label
            if (sae := _sae_of(row)) is not None:
                saes[sae] = None
    return Imported(list(found.values()), list(saes))


def check_saes(saes: Sequence[str], known: Sequence[str], path: Path) -> None:
    """MismatchError where labels say they are of another SAE than these."""
    if others := [sae for sae in saes if sae not in known]:
        raise MismatchError(
            f"the labels in {path} are of another SAE, or of one that the index does not know by that name",
            got=", ".join(others[:5]),
            accepted=" or ".join(known),
            fix=f"pass sae_id={others[0]!r} if that is the SAE of this index",
        )


def _label(row: Mapping[str, Any], where: str, d_sae: int) -> Label:
    ours = "label" in row
    feature, text = (_field(row, fields, where) for fields in (FEATURE, TEXT))
    text = "" if _is_missing(text) else text
    note = row.get("note") if ours else row.get("typeName")
    stars, author, time = row.get("stars"), row.get("author"), row.get("time")
    if not ours:
        author, time, stars = row.get("explanationModelName") or row.get("authorId"), row.get("createdAt"), None
        if isinstance(text, str) and len(text) > LONGEST_LABEL:
            note, text = text[:LONGEST_NOTE], f"{text[: LONGEST_LABEL - 1]}…"
    try:
        return make_label(
            _number(feature),
            text,
            d_sae,
            note="" if _is_missing(note) else note,
            stars=None if _is_missing(stars) else _stars(stars),
            author="" if _is_missing(author) else author,
            time="" if _is_missing(time) else str(time)[:40],
            source=str(row.get("source") or "file") if ours else "neuronpedia",
        )
    except SaekitError as e:
        raise FileError(f"{where}: {e.what}", got=e.got, accepted=e.accepted, fix="correct the file") from e


def _stars(value: Any) -> int:
    number = _number(value)
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 5:
        raise FileError("stars is no rating", got=f"{value!r:.40}", accepted="1 to 5")
    return number


def _field(row: Mapping[str, Any], names: Sequence[str], where: str) -> Any:
    for name in names:
        if name in row:
            return row[name]
    raise FileError(
        f"{where} lacks a field",
        got=", ".join(map(str, list(row)[:20])),
        accepted=f"{' or '.join(names)}; labels have {' or '.join(FEATURE)}, and {' or '.join(TEXT)}",
        fix="rename the field",
    )


def _number(value: Any) -> Any:
    """A whole number that a table holds as 3.0 or a JSON file as "3"; anything else as it is."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20:
        return int(value)
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return int(value)
    return int(value) if isinstance(value, np.integer) else value


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))


def _sae_of(row: Mapping[str, Any]) -> str | None:
    """What a row says that it is of: a fingerprint, or Neuronpedia's modelId/layer."""
    if not _is_missing(row.get("sae")):
        return str(row["sae"])
    parts = [str(row[name]) for name in ("modelId", "layer") if not _is_missing(row.get(name))]
    return "/".join(parts) or None


def _suffix_of(path: Path) -> str:
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


def _suffix(path: Path) -> str:
    suffix = _suffix_of(path)
    packed = path.suffix.lower() == ".gz"
    if suffix not in SUFFIXES or (packed and suffix in (".csv", ".parquet")):
        raise FileError(
            f"{path} is no file of labels, by its name",
            got=path.suffix or "no ending",
            accepted=f"{', '.join(SUFFIXES)}, and .gz after .json or .jsonl",
        )
    return suffix


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    suffix = _suffix(path)
    with disk_errors(path), damaged(path, also=(pa.ArrowException, EOFError, OSError)):
        if suffix == ".parquet":
            rows = pd.read_parquet(path).to_dict("records")
        elif suffix == ".csv":
            rows = pd.read_csv(path, dtype=str, keep_default_na=False, na_values={"stars": [""]}).to_dict("records")
        else:
            content = _content(path)
    if suffix in (".json", ".jsonl"):
        if suffix == ".json":
            rows = parsed(content, path)
            rows = [rows] if isinstance(rows, dict) else rows
        else:
            lines = [(n, line) for n, line in enumerate(content.split(b"\n"), 1) if line.strip()]
            rows = [parsed(line, f"{path}, line {n}") for n, line in lines]
    if not isinstance(rows, list):
        raise FileError(f"{path} holds no list of labels", got=type(rows).__name__, accepted="a list of objects")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise FileError(f"{path}, row {number} is no object", got=f"{row!r:.80}", accepted="an object of fields")
        yield {str(name): value for name, value in row.items()}


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = (gzip.GzipFile(fileobj=file) if path.suffix.lower() == ".gz" else file).read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise FileError(f"{path} is too large", got=f"over {MAX_BYTES:,} bytes", accepted="a smaller file, or several")
    return content
