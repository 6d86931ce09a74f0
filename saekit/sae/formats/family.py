"""What a family of SAE files is to `load_sae`: how it is recognised, read, and which files belong together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .saved import SavedSAE


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family of SAE files; `path` is a folder or a single file."""

    name: str
    """As people call it."""
    recognises: Callable[[Path], bool]
    """Whether what lies at a path is of this family: by its content, never by the name of a folder."""
    read: Callable[[Path, Mapping[str, Any]], SavedSAE]
    """The SAE there; FileError for one that is damaged or cannot be read. The second is what is known beside the files,
    see `registry.read`."""
    beside: tuple[str, ...] = ()
    """Files that a single file needs too, relative to its folder: what has to be fetched with it."""
