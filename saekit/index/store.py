"""The index as a folder of files: written so that it is whole or absent, read only where it is looked at.

    manifest.json            what was indexed, with what, and every other file's size and SHA-256; written last
    features.parquet         one row per feature: statistics, histogram, logit effects, neighbours
    contexts.parquet         one row per stored context: bin -1 for the top ones, 0 to 9 for the sampled ones
    documents.parquet        one row per document: its labels
    vocabulary.parquet       what to show for each token
    windows.safetensors      tokens, document numbers and lengths of the windows, positions of the tokens kept
    by_token.safetensors     the sparse activations by token; a row for each token kept
    by_feature.safetensors   the same by feature; a row for each feature
    names.parquet            what each feature is called, by the rule of `names`; not in older indexes

Sizes are checked when the folder is opened. Contents are checked against their SHA-256 when it is opened for files up
to SMALL bytes, and the first time it is used for a larger one, so that opening costs milliseconds whatever the size.
What is in the columns and tensors is decided in `index_files`.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..atomic_io import atomic_write, sha256, with_current_keys, write_json
from ..errors import FileError, disk_errors
from ..json_files import checked, damaged, read_json
from .manifest import Manifest, sizes_of
from .statistics import BUILT_IN

KIND, FORMAT = "saekit feature index", 1
SMALL = 4_000_000
MANIFEST = "manifest.json"
FILES = (
    "features.parquet",
    "contexts.parquet",
    "documents.parquet",
    "vocabulary.parquet",
    "windows.safetensors",
    "by_token.safetensors",
    "by_feature.safetensors",
)
NAMES = "names.parquet"
OPTIONAL = (NAMES,)
"""Files that can be made of the others."""
OLDER_COLUMNS = {
    "interval": "bin",
    "dead": "silent",
}  # of tables that earlier versions wrote, and what they are called today
_REBUILD = "build the index again in another folder, or restore the file from a copy"


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Writes arrays to a safetensors file, atomically. DiskFullError when there is no room."""
    with atomic_write(path) as part:
        try:
            save_file(
                {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in tensors.items()},
                part,
                dict(metadata) if metadata else None,
            )
        except SafetensorError as e:  # it hides the operating system's error in its text
            full = "os error 28" in str(e) or "code: 28" in str(e) or "StorageFull" in str(e)
            raise OSError(errno.ENOSPC if full else errno.EIO, str(e)) from e


def save_frame(path: Path, frame: pd.DataFrame) -> None:
    """Writes a data frame to a parquet file with its index, atomically."""
    with atomic_write(path) as part:
        pq.write_table(pa.Table.from_pandas(frame), part, compression="zstd")


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes manifest.json over files that are already in place: the folder is an index from here on."""
    with disk_errors(folder):
        there = [*FILES, *(n for n in OPTIONAL if (folder / n).is_file())]
        files = {n: {"bytes": (folder / n).stat().st_size, "sha256": sha256(folder / n)} for n in there}
    manifest = {"kind": KIND, "format": FORMAT, **facts, "files": files}
    write_json(folder / MANIFEST, {**manifest, "checksum": _checksum(manifest)})


class Store:
    """An index folder opened for reading. Only the manifest and the small files are read before they are asked for."""

    def __init__(self, folder: str | Path, *, verify: bool = True) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileError(f"no index folder {folder}", got=folder, accepted="a folder that sk.build_index wrote")
        if not (self.folder / MANIFEST).is_file():
            raise FileError(
                f"{folder} holds no finished index",
                got=sorted(p.name for p in self.folder.iterdir())[:10],
                accepted=f"a folder with {MANIFEST}",
                fix="call sk.build_index with this folder: an unfinished build resumes",
            )
        self.manifest: dict[str, Any] = read_json(self.folder / MANIFEST)
        self._check_manifest()
        self.manifest = checked(with_current_keys(self.manifest), Manifest, self.folder / MANIFEST, fix=_REBUILD)
        if missing := [name for name in FILES if name not in self.manifest["files"]]:
            raise FileError(f"{self.folder / MANIFEST} does not list {missing[0]}", accepted=FILES, fix=_REBUILD)
        self.files = (*FILES, *(name for name in OPTIONAL if name in self.manifest["files"]))
        self.verify = verify
        self._checked: set[str] = set()
        self._open: dict[str, dict[str, np.ndarray]] = {}
        for name in self.files:
            self._check_size(name)
            if verify and self.manifest["files"][name]["bytes"] <= SMALL:
                self._check_contents(name)

    @property
    def statistics(self) -> tuple[str, ...]:
        """The columns of features.parquet that are statistics."""
        return tuple(OLDER_COLUMNS.get(name, name) for name in self.manifest.get("statistics", BUILT_IN))

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of a safetensors file, memory-mapped: only the parts that are touched are read from disk."""
        if name not in self._open:
            self.ready(name)
            where = self.folder / name
            with damaged(where, fix=_REBUILD, also=(SafetensorError,)), safe_open(where, "pt") as f:
                arrays = {key: f.get_tensor(key).numpy() for key in f.keys()}  # noqa: SIM118
            self._check_counts(name, {key: len(a) if a.ndim == 1 else -1 for key, a in arrays.items()})
            self._open[name] = arrays
        return self._open[name]

    def frame(self, name: str) -> pd.DataFrame:
        """A parquet file as a data frame, with the names that its columns have today."""
        self.ready(name)
        with damaged(self.folder / name, fix=_REBUILD, also=(pa.ArrowException, OSError)):
            table: pd.DataFrame = pq.read_table(self.folder / name).to_pandas()
        self._check_counts(name, {"": len(table)})
        return table.rename(columns=OLDER_COLUMNS)

    def check_all(self) -> None:
        """Reads every file once; FileError names the first that is missing, truncated or altered."""
        for name in self.files:
            self._check_size(name)
            self._check_contents(name)

    def ready(self, name: str) -> None:
        """Checks a file as it is about to be used."""
        self._check_size(name)
        if self.verify and name not in self._checked:
            self._check_contents(name)

    def _check_manifest(self) -> None:
        where = self.folder / MANIFEST
        checked(self.manifest, dict[str, Any], where, fix=_REBUILD)
        manifest = {k: v for k, v in self.manifest.items() if k != "checksum"}
        if manifest.get("kind") != KIND:
            raise FileError(
                f"{self.folder} holds something else than a feature index",
                got=manifest.get("kind", "no kind"),
                accepted=KIND,
                fix="pass another folder",
            )
        if manifest.get("format") != FORMAT:
            raise FileError(
                f"{where} is of another format",
                got=manifest.get("format"),
                accepted=f"format {FORMAT}",
                fix="build the index again with this version of saekit",
            )
        if self.manifest.get("checksum") != _checksum(manifest):
            raise FileError(f"{where} has been altered: its own checksum does not match", got=where, fix=_REBUILD)

    def _check_counts(self, name: str, seen: Mapping[str, int]) -> None:
        """FileError for arrays of other sizes than the manifest says, which would be read beyond their end."""
        wanted = sizes_of(name, self.manifest["counts"])
        if different := [key for key in wanted if seen.get(key) != wanted[key]]:
            raise FileError(
                f"{self.folder / name} does not have the size that {MANIFEST} says",
                got=", ".join(f"{key or 'rows'}: {seen.get(key)}" for key in different),
                accepted=", ".join(f"{key or 'rows'}: {wanted[key]}" for key in different),
                fix=_REBUILD,
            )

    def _check_size(self, name: str) -> None:
        path, expected = self.folder / name, self.manifest["files"][name]["bytes"]
        seen = path.stat().st_size if path.is_file() else None
        if seen != expected:
            what = "is missing" if seen is None else "is truncated" if seen < expected else "has grown"
            raise FileError(
                f"{path} {what}",
                got="nothing" if seen is None else f"{seen} bytes",
                accepted=f"{expected} bytes",
                fix=_REBUILD,
            )

    def _check_contents(self, name: str) -> None:
        seen, expected = sha256(self.folder / name), self.manifest["files"][name]["sha256"]
        if seen != expected:
            raise FileError(
                f"{self.folder / name} has been altered: its SHA-256 does not match the manifest's",
                got=seen[:16],
                accepted=expected[:16],
                fix=_REBUILD,
            )
        self._checked.add(name)


def _checksum(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
