"""What lies at a path, looked at without loading a weight: families of SAE files are told apart by it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from ...errors import SaekitError
from ...json_files import checked, damaged, parsed, read_json

MAX_HEADER = 100_000_000  # bytes; safetensors' own limit


def folder_of(path: Path) -> Path:
    """The folder itself, or the one that a file lies in."""
    return path if path.is_dir() else path.parent


def files_ending(path: Path, *suffixes: str) -> list[Path]:
    """The file itself where it ends so, or the files of a folder that do."""
    found = sorted(path.iterdir()) if path.is_dir() else [path]
    return [p for p in found if p.suffix in suffixes and p.is_file()]


def json_at(path: Path, schema: Any = Any) -> dict[str, Any]:
    """The JSON object in a file; empty where there is none; FileError where it is damaged or not as `schema` says."""
    value: Any = read_json(path) if path.is_file() else {}
    return checked(value, schema, path) if isinstance(value, dict) else {}  # of a list or a number it says nothing


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a safetensors file, from its header; empty for anything else."""
    try:
        with path.open("rb") as f:
            size = struct.unpack("<Q", f.read(8))[0]
            header = f.read(size) if size <= MAX_HEADER else b"{}"
        with damaged(path):
            about = parsed(header, path).items()
            return {name: tuple(map(int, of["shape"])) for name, of in about if name != "__metadata__"}
    except (OSError, struct.error, SaekitError):
        return {}
