"""Files of one JSON object a line that only grow: metrics of a run, texts of a study.

Each line holds a checksum of itself. A last line that a kill cut short is left out when the file is read and cut off
when it grows; any other line that is damaged is named.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .atomic_io import sync_folder
from .errors import FileError, disk_errors
from .json_files import CHECKSUM, check_seal, checked, parsed, sealed


def as_lines(values: Iterable[Mapping[str, Any]]) -> str:
    """The text of these objects, each with its checksum, one a line."""
    return "".join(json.dumps(sealed(value), ensure_ascii=True) + "\n" for value in values)


def read_lines(
    path: str | Path, schema: Any, *, fix: str, on_cut: Callable[[str], object] = lambda where: None
) -> list[dict[str, Any]]:
    """The objects in a file; none where there is no file. FileError names a line that is damaged or altered.

    `on_cut` is told where a last line stands that was cut short, which is left out.

    >>> from saekit.json_lines import append_lines, read_lines
    >>> append_lines(tmp_path / "a.jsonl", [{"step": 1}, {"step": 2}])
    >>> with (tmp_path / "a.jsonl").open("a") as f:
    ...     _ = f.write('{"ste')  # a kill
    >>> append_lines(tmp_path / "a.jsonl", [{"step": 3}])
    >>> read_lines(tmp_path / "a.jsonl", dict[str, int], fix="write it again")
    [{'step': 1}, {'step': 2}, {'step': 3}]
    """
    path = Path(path)
    if not path.is_file():
        return []
    with disk_errors(path):
        content = path.read_bytes()
    *lines, last = content.split(b"\n")
    found = [_object(line, f"{path}, line {n}", schema, fix) for n, line in enumerate(lines, 1)]
    where = f"{path}, line {len(lines) + 1}"
    if last and _is_cut(last):
        on_cut(where)
    elif last:
        found.append(_object(last, where, schema, fix))
    return found


def append_lines(path: str | Path, values: Sequence[Mapping[str, Any]]) -> None:
    """Adds objects at the end of a file, after what was cut short there is gone, and returns once they are on disk."""
    path = Path(path)
    new = not path.exists()
    with disk_errors(path), path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        last, start = _last_line(file, end)
        if last and _is_cut(last):
            file.truncate(start)
        file.write((b"\n" if last and not _is_cut(last) else b"") + as_lines(values).encode("ascii"))
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync_folder(path.parent)


def _last_line(file: Any, end: int, block: int = 1 << 16) -> tuple[bytes, int]:
    """What stands after the last line break, and where it begins."""
    start = end
    while start > 0:
        start = max(start - block, 0)
        file.seek(start)
        before, found, last = file.read(end - start).rpartition(b"\n")
        if found:
            return last, start + len(before) + 1
    file.seek(0)
    return file.read(end), 0


def _is_cut(last: bytes) -> bool:
    """Whether a last line without a line break is the beginning of one, and not one whose line break was altered."""
    for whole in (last, last[:-1]):
        try:
            value = parsed(whole, "the last line")
        except FileError:
            continue
        if isinstance(value, dict):
            return False
    return True


def _object(line: bytes, where: str, schema: Any, fix: str) -> dict[str, Any]:
    value = checked(parsed(line, where, fix=fix), dict[str, Any], where, fix=fix)
    check_seal(value, where, fix=fix)
    rest = {name: v for name, v in value.items() if name != CHECKSUM}
    checked(rest, schema, where, fix=fix)
    return rest
