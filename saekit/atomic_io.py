"""Writing files so that a reader never sees half of one.

A file is written beside its place, flushed to disk and renamed: a kill, a crash or a full disk leaves the old file or
none. What is a link stays one, and what others may read stays so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import FileError, disk_errors


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path in the same folder; it becomes `path` when the block ends well and vanishes when it does not.

    A new file is as readable as the process' umask says, one that replaces another as that one was. Through a link the
    file that it leads to is replaced.

    >>> with atomic_write(tmp_path / "a.txt") as part:
    ...     _ = part.write_text("whole")
    >>> (tmp_path / "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    with disk_errors(path):
        target = Path(os.path.realpath(path))
        if target.is_symlink():
            raise FileError(f"{path} is a link that leads to itself", got=target, fix="remove the link")
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        target.parent.mkdir(parents=True, exist_ok=True)
        part = _new_file(target)
        try:
            yield part
            with part.open("rb+") as f:
                os.fsync(f.fileno())
            if mode is not None:
                part.chmod(mode)
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)


def _new_file(target: Path) -> Path:
    """An empty hidden file beside `target`, with the mode of any new file."""
    while True:
        part = target.parent / f".{target.name}.{secrets.token_hex(4)}.part"
        with contextlib.suppress(FileExistsError):
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
            return part


def sync_folder(folder: Path) -> None:
    """Writes the names in a folder to disk, where the system can, so that renames last in the order they were made."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def sha256(path: str | Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    with disk_errors(path), Path(path).open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf8")


OLDER_KEYS = {
    "decay_share": "decay_fraction",
    "l1_coefficient": "sparsity_coefficient",
    "n_bins": "n_histogram_bins",
    "n_dead": "n_silent",
    "n_intervals": "n_activation_bins",
    "n_per_interval": "n_per_bin",
    "products": "matmul_dtype",
    "sparsity_warmup_share": "sparsity_warmup_fraction",
    "token_rule": "token_filter",
}
"""Keys in files of earlier versions, and what they are called today."""


def with_current_keys(value: Any) -> Any:
    """A JSON value from a file of any version, with today's keys at every depth.

    >>> with_current_keys({"config": [{"token_rule": None}]})
    {'config': [{'token_filter': None}]}
    """
    if isinstance(value, Mapping):
        return {OLDER_KEYS.get(name, name): with_current_keys(v) for name, v in value.items()}
    return [with_current_keys(v) for v in value] if isinstance(value, list) else value
