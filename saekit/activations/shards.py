"""The files of an activation cache: the manifest and the shards it lists."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from typing_extensions import TypedDict

from ..atomic_io import atomic_write, sha256, with_current_keys, write_json
from ..corpus import Windows
from ..errors import DataError, FileError, MismatchError, disk_errors
from ..hook_points import HookPoint, hook_names
from ..json_files import CHECKSUM, Count, Hooks, Natural, Sha256, checked, damaged, read_sealed, sealed
from ..output_folder import check_part, digest_of_plan
from ..sae import TokenFilter
from ..sae.token_filter import TokenFilterFields

FORMAT = 1
SHARD_TOKENS = 32_768
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
FILES = ("manifest.json", "shard-*", "windows.safetensors", "documents.parquet")
"""Names of the files of a cache."""
_AGAIN = "delete the folder and write it again with cache_activations"
_MEND = "delete that file and call cache_activations with the same arguments: it alone is made again"


class Shard(TypedDict):
    """A file of a cache in its manifest."""

    file: Annotated[str, Field(pattern=r"^shard-[0-9]{5,9}\.safetensors$")]
    n_tokens: Natural
    bytes: Natural
    sha256: Sha256


class Manifest(TypedDict):
    """manifest.json of an activation cache."""

    format: Literal[1]
    model_name: str
    model_fingerprint: str
    weight_processing: str
    hook_name: Hooks
    d_in: Count
    widths: NotRequired[list[Count]]
    dtype: Literal["float32", "float16", "bfloat16"]
    text: str
    length: Count
    token_filter: TokenFilterFields
    windows_per_shard: Count
    n_shards: Natural
    shards: list[Shard]


def complete(path: Path, windows: Windows, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of the finished cache in `path`, its shards checked; None where something has to be written."""
    if not (path / "manifest.json").is_file():
        return None
    manifest = read_manifest(path)
    _check_identity(path, manifest, identity)
    there = all((path / shard["file"]).exists() for shard in manifest["shards"])
    if not there or len(manifest["shards"]) < manifest["n_shards"] or _stored(path) != windows.digest:
        return None
    for shard in manifest["shards"]:
        check_shard(path, shard, verify=True)
    return manifest


def begin(path: Path, windows: Windows, identity: dict[str, Any], fit: Callable[[], TokenFilter]) -> dict[str, Any]:
    """The manifest of the cache in `path`: a new one, or that of an earlier run of the same, its shards checked.

    The caller holds the lock of the folder.
    """
    if (path / "manifest.json").is_file():
        manifest = read_manifest(path)
        _check_identity(path, manifest, identity)
        manifest["shards"] = [shard for shard in manifest["shards"] if (path / shard["file"]).exists()]
        for shard in manifest["shards"]:
            check_shard(path, shard, verify=True)
    else:
        if any(p.name[0] != "." for p in path.iterdir()):
            raise FileError(
                f"{path} exists and is not an activation cache",
                got="a folder with other files",
                accepted="a new or empty folder, or an activation cache",
                fix="pass another path",
            )
        per_shard = max(1, SHARD_TOKENS // windows.length)
        manifest = {
            "format": FORMAT,
            **identity,
            "token_filter": fit().to_dict(),
            "windows_per_shard": per_shard,
            "n_shards": -(-len(windows) // per_shard),
            "shards": [],
        }
        write_json(path / "manifest.json", sealed(manifest))
    if _stored(path) != windows.digest:
        windows.save(path)
    return manifest


def _check_identity(path: Path, manifest: dict[str, Any], identity: dict[str, Any]) -> None:
    for key, mine in identity.items():
        if manifest[key] != mine:
            raise MismatchError(
                f"{path} holds activations that differ in {key.replace('_', ' ')}",
                got=mine,
                accepted=manifest[key],
                fix="write to another folder, or delete this one",
            )


def _stored(path: Path) -> str | None:
    """The digest of the windows in a folder; None where there are none that can be read."""
    try:
        return Windows.load(path).digest
    except FileError:
        return None


def plan_of(manifest: dict[str, Any]) -> str:
    """The digest of everything that the shards of a cache depend on."""
    return digest_of_plan({key: value for key, value in manifest.items() if key not in ("shards", CHECKSUM)})


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in `path`; FileError when there is none or it is of another format."""
    if not (path / "manifest.json").is_file():
        raise FileError(f"no activation cache in {path}", got=path, fix="write one with cache_activations")
    manifest = read_sealed(path / "manifest.json", fix=_AGAIN)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or "windows_per_shard" not in manifest:
        raise FileError(
            f"{path / 'manifest.json'} is not the manifest of an activation cache",
            got=manifest.get("format") if isinstance(manifest, dict) else manifest,
            accepted=f"format {FORMAT}",
            fix="write it again with cache_activations",
        )
    if "rule" in manifest:  # written before token filters were called that
        manifest["token_filter"] = manifest.pop("rule")
    manifest = {name: value for name, value in manifest.items() if name != CHECKSUM}
    manifest = checked(with_current_keys(manifest), Manifest, path / "manifest.json", fix=_AGAIN)
    _check_manifest(path / "manifest.json", manifest)
    return manifest  # type: ignore[no-any-return]


def _check_manifest(file: Path, manifest: dict[str, Any]) -> None:
    """FileError where parts of a manifest contradict each other."""
    names = [shard["file"] for shard in manifest["shards"]]
    numbers = [int(name[6:-12]) for name in names]
    widths = manifest.get("widths", [manifest["d_in"]])
    hook = manifest["hook_name"]
    wrong = {
        "lists a shard twice": len(set(numbers)) < len(numbers),
        "does not list its shards in order": numbers != sorted(numbers),
        f"lists a shard beyond the {manifest['n_shards']} there are": max(numbers, default=-1) >= manifest["n_shards"],
        "has widths that do not make up d_in": sum(widths) != manifest["d_in"],
        "has another number of widths than of hook points": "widths" in manifest
        and len(widths) != len(hook_names(hook if isinstance(hook, str) else tuple(hook))),
    }
    for what in [what for what, so in wrong.items() if so]:
        raise FileError(
            f"{file} {what}", got=f"shards {names[:8]}, widths {widths}, d_in {manifest['d_in']}", fix=_AGAIN
        )


def shard_name(n: int) -> str:
    """The file of shard `n`."""
    return f"shard-{n:05d}.safetensors"


def write_shard(
    path: Path, n: int, x: Float[Tensor, "n d_in"], position: Int64[Tensor, " n"], manifest: dict[str, Any]
) -> None:
    """Writes shard `n` whole or not at all, then enters it in the manifest."""
    stored = x.to(DTYPES[manifest["dtype"]])
    if not stored.isfinite().all():
        raise DataError(
            f"activations overflow {manifest['dtype']}",
            got=float(x.abs().max()),
            accepted=f"at most {torch.finfo(stored.dtype).max:g}",
            fix='pass dtype="bfloat16" or "float32"',
        )
    file = shard_name(n)
    data = save({"x": stored.contiguous(), "position": position.contiguous()}, {"plan": plan_of(manifest)})
    with atomic_write(path / file) as part:
        part.write_bytes(data)
    entry = {"file": file, "n_tokens": len(x), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest["shards"] = sorted([*manifest["shards"], entry], key=lambda shard: str(shard["file"]))
    write_json(path / "manifest.json", sealed(manifest))


def read_shard(file: Path) -> tuple[Float[Tensor, "n d_in"], Int64[Tensor, " n"]]:
    """(x, position) of a shard, memory-mapped, x in its dtype on disk."""
    with disk_errors(file), damaged(file, fix=_MEND, also=(SafetensorError,)), safe_open(file, framework="pt") as f:
        return f.get_tensor("x"), f.get_tensor("position")


def check_shard(path: Path, shard: dict[str, Any], verify: bool) -> None:
    """FileError when a shard is missing, cut short or, if `verify`, altered."""
    file = path / shard["file"]
    if not file.is_file():
        raise FileError(f"{file} is missing", got="no such file", fix="call cache_activations to make it again")
    if (size := file.stat().st_size) != shard["bytes"]:
        raise FileError(f"{file} was cut short or added to", got=f"{size} bytes", accepted=shard["bytes"], fix=_MEND)
    if verify and (digest := sha256(file)) != shard["sha256"]:
        raise FileError(f"{file} was altered", got=f"SHA-256 {digest}", accepted=shard["sha256"], fix=_MEND)


def check_plans(path: Path, manifest: dict[str, Any]) -> None:
    """FileError for a shard that was written for another cache than the one that the manifest describes."""
    plan = plan_of(manifest)
    for file in (path / shard["file"] for shard in manifest["shards"]):
        with disk_errors(file), damaged(file, fix=_MEND, also=(SafetensorError,)), safe_open(file, "pt") as f:
            check_part((f.metadata() or {}).get("plan"), plan, file)


class ShardFiles:
    """The shards of a cache, memory-mapped, as one table of tokens; parts of a cache share it."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        hook = manifest["hook_name"]
        self.hook_name: HookPoint = hook if isinstance(hook, str) else tuple(hook)
        self.d_in: int = manifest["d_in"]
        self.model_name: str = manifest["model_name"]
        self.model_fingerprint: str = manifest["model_fingerprint"]
        self.weight_processing: str = manifest["weight_processing"]
        self.dtype: str = manifest["dtype"]
        self._files = [path / s["file"] for s in manifest["shards"]]
        self._shards = [read_shard(file) for file in self._files]
        for file, shard, (x, position) in zip(self._files, manifest["shards"], self._shards, strict=True):
            n = shard["n_tokens"]
            seen = (tuple(x.shape), x.dtype, tuple(position.shape), position.dtype)
            if seen != (said := ((n, self.d_in), DTYPES[self.dtype], (n,), torch.int64)):
                raise FileError(
                    f"{file} holds other tensors than the manifest says", got=seen, accepted=said, fix=_MEND
                )
        self._starts = [0, *accumulate(len(x) for x, _ in self._shards)]

    @property
    def n_tokens(self) -> int:
        """Kept tokens."""
        return self._starts[-1]

    @property
    def n_shards(self) -> int:
        """Number of files."""
        return len(self._shards)

    @property
    def nbytes(self) -> int:
        """Bytes of all activations on disk."""
        return sum(x.nbytes for x, _ in self._shards)

    @cached_property
    def position(self) -> Int64[Tensor, " n_tokens"]:
        """For each token window * length + place in the window; ascending."""
        position = torch.cat([position for _, position in self._shards])
        if not bool((position[1:] > position[:-1]).all()) or bool((position < 0).any()):
            raise FileError(f"{self.path} holds tokens that are not in the text's order", fix=_AGAIN)
        return position

    def x(self, rows: slice | Int64[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        """The activations of these tokens, in the order asked for, as float32."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.n_tokens)
            if step != 1:
                return self.x(torch.arange(start, stop, step))
            parts = [
                x[max(start - first, 0) : stop - first]
                for (x, _), first in zip(self._shards, self._starts[:-1], strict=True)
                if first < stop and first + len(x) > start
            ]
            return torch.cat(parts).float() if parts else torch.empty(0, self.d_in)
        out = torch.empty(len(rows), self.d_in)
        order = rows.argsort()
        ends = torch.searchsorted(rows[order], torch.tensor(self._starts)).tolist()
        for (x, _), first, a, b in zip(self._shards, self._starts[:-1], ends[:-1], ends[1:], strict=True):
            if a < b:
                out[order[a:b]] = x[rows[order[a:b]] - first].float()
        return out

    def release(self) -> None:
        """Lets go of the memory in which what was read of the files is kept."""
        self._shards[:] = [read_shard(file) for file in self._files]
