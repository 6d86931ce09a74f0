"""The families of SAE files, one line each, in the order in which they are asked."""

from __future__ import annotations

from pathlib import Path

from ...errors import FileError
from . import saelens
from .family import Family
from .saved import SavedSAE

FAMILIES: tuple[Family, ...] = (saelens.FAMILY,)


def read(path: Path) -> SavedSAE:
    """The SAE in a folder or a file, by the family that recognises it; FileError where none does."""
    for family in FAMILIES:
        if family.recognises(path):
            return family.read(path)
    raise FileError(
        f"{path} is of no family of SAE files that saekit knows",
        got=", ".join(sorted(p.name for p in path.iterdir())[:8]) or "an empty folder" if path.is_dir() else path.name,
        accepted=", ".join(family.name for family in FAMILIES),
        fix="pass the folder or the file that holds the weights of one SAE, or use sk.SAE.from_tensors",
    )
