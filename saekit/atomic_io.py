"""Writing files so that a reader never sees half of one, and which run an output folder belongs to.

A file is written beside its place, flushed to disk and renamed: a kill, a crash or a full disk leaves the old file or
none.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import MismatchError, disk_errors
from .json_files import read_json


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path in the same folder; it becomes `path` when the block ends well and vanishes when it does not.

    >>> with atomic_write(tmp_path / "a.txt") as part:
    ...     _ = part.write_text("whole")
    >>> (tmp_path / "a.txt").read_text()
    'whole'
    """
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            part.chmod(0o644)
            with part.open("rb+") as f:
                os.fsync(f.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def sha256(path: str | Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits."""
    with disk_errors(path), Path(path).open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf8")


PLAN = "plan.json"
"""The file that says which run a folder belongs to."""


def claim_folder(folder: str | Path, plan: Mapping[str, Any], what: str, *, in_use: bool = True) -> None:
    """Makes `folder` the output of the run that `plan` describes; MismatchError when it belongs to another run.

    `what` is what the folder holds, in the error's words. in_use=False lets go of what another run planned there.

    >>> claim_folder(tmp_path / "out", {"seed": 0}, "a study")
    >>> claim_folder(tmp_path / "out", {"seed": 1}, "a study")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    saekit.errors.MismatchError: ...out holds a study of another seed
    ...
    """
    record = Path(folder) / PLAN
    if in_use and record.is_file():
        check_same_plan(folder, with_current_keys(read_json(record)), plan, what)
    else:
        write_json(record, plan)


def check_same_plan(folder: str | Path, found: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> None:
    """MismatchError that names what differs between the run a folder belongs to and the one asked for."""
    differs = [key for key in wanted if found.get(key) != wanted[key]]
    if differs:
        raise MismatchError(
            f"{folder} holds {what} of another {', '.join(d.replace('_', ' ') for d in differs)}",
            got="; ".join(f"{d}: {wanted[d]}" for d in differs),
            accepted="; ".join(f"{d}: {found.get(d)}" for d in differs),
            fix="pass another folder as out=, or delete this one if it is no longer needed",
        )


OLDER_KEYS = {
    "decay_share": "decay_fraction",
    "l1_coefficient": "sparsity_coefficient",
    "n_bins": "n_histogram_bins",
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
