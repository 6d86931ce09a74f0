"""Whether the files of an SAE are those that were saved: their hashes, and a checksum of cfg.json in itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...atomic_io import sha256
from ...errors import FileError
from ...output_folder import digest_of_plan


def check_hash(path: Path, expected: str, fix: str) -> None:
    """FileError for a file with another SHA-256."""
    if sha256(path) != expected:
        raise FileError(
            f"{path} is not the file that was saved",
            got=f"{path.stat().st_size} bytes with another hash",
            accepted=f"sha256 {expected[:16]}...",
            fix=fix,
        )


def checksum(cfg: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of all that a cfg.json says, the checksum apart."""
    meta = cfg["metadata"]
    own = {name: value for name, value in meta["saekit"].items() if name != "checksum"}
    return digest_of_plan({**cfg, "metadata": {**meta, "saekit": own}})


def check_unaltered(cfg: Mapping[str, Any], file: Path, version: str) -> None:
    """FileError where anything in a cfg.json of saekit is not as it was saved.

    SAELens keeps metadata when it saves an SAE again, and writes another version there than `version`, which saekit
    writes: such a file is not held to the checksum.
    """
    said, seen = cfg["metadata"]["saekit"].get("checksum"), checksum(cfg)
    if said is not None and cfg["metadata"].get("sae_lens_version") == version and said != seen:
        raise FileError(
            f"{file} was altered: its own checksum does not match",
            got=seen,
            accepted=said,
            fix="copy it again; what you changed on purpose is accepted once metadata.saekit.checksum is taken out",
        )
