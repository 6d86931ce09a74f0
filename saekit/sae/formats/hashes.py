"""Whether the files beside cfg.json are those that were saved with it."""

from __future__ import annotations

from pathlib import Path

from ...atomic_io import sha256
from ...errors import FileError


def check_hash(path: Path, expected: str, fix: str) -> None:
    """FileError for a file with another SHA-256."""
    if sha256(path) != expected:
        raise FileError(
            f"{path} is not the file that was saved",
            got=f"{path.stat().st_size} bytes with another hash",
            accepted=f"sha256 {expected[:16]}...",
            fix=fix,
        )
