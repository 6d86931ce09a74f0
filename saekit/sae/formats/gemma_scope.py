"""Gemma Scope: JumpReLU SAEs and transcoders of Gemma 2, each in a params.npz.

b_dec is not subtracted from the input. The file says neither which hook point it is of nor whether it is a transcoder:
`load_sae(path, hook_name=..., hook_out=...)` does. SAEs of embeddings were trained before Gemma multiplies those by
sqrt(d_model): activation_scale=d_model**-0.5 fits them to hook_embed. (SAELens scales W_enc and W_dec so, but not
b_dec.) Source: Lieberum et al. 2024, arXiv:2408.05147.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import FileError, SaekitError
from ...json_files import FAILURES
from .assembly import fold_scale, of_names, saved
from .contents import files_ending
from .family import Family
from .saved import SavedSAE

NAMES = {"w_enc": "W_enc", "w_dec": "W_dec", "b_enc": "b_enc", "b_dec": "b_dec", "threshold": "threshold"}

DAMAGE: tuple[type[Exception], ...] = (*FAILURES, OSError, zlib.error)
MAX_RATIO = 100
"""Of the bytes of an array to those in the archive: weights hardly shrink, and a small file is to stay one."""


def recognises(path: Path) -> bool:
    """Whether there is an archive of arrays with these names."""
    return any(_names(p) >= NAMES.keys() for p in files_ending(path, ".npz"))


def read(path: Path, said: Mapping[str, Any]) -> SavedSAE:
    """The SAE, or the transcoder where `said` has a hook_out."""
    file = next(p for p in files_ending(path, ".npz") if _names(p) >= NAMES.keys())
    try:
        with np.load(file, allow_pickle=False) as arrays:
            for name in arrays.files:
                _check_size(arrays.zip, name, file)
            found = {name.lower(): torch.from_numpy(arrays[name]) for name in arrays.files}
    except SaekitError:
        raise
    except DAMAGE as e:
        raise FileError(
            f"{file} is not a whole archive of arrays", got=e, accepted="params.npz", fix="fetch or copy it again"
        ) from e
    weights = of_names(found, NAMES, FAMILY.name, file)
    if scale := said.get("activation_scale"):  # embeddings
        fold_scale(weights, scale)
    return saved(FAMILY.name, file, weights, activation="jumprelu", apply_b_dec_to_input=False)


def _check_size(archive: zipfile.ZipFile, name: str, file: Path) -> None:
    """FileError for an array whose header asks for more than the archive holds of it, before it is made."""
    member = archive.getinfo(name if name in archive.namelist() else f"{name}.npy")
    with archive.open(member) as f:
        version = np.lib.format.read_magic(f)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(f)
    inflated = member.file_size > 2**20 + MAX_RATIO * member.compress_size
    if math.prod(shape) * dtype.itemsize > member.file_size or inflated:
        raise FileError(
            f"{file}: {name} is larger than what the archive holds of it",
            got=f"shape {shape} of {member.compress_size} bytes",
            accepted="arrays that were saved in full",
            fix="fetch or copy it again",
        )


def _names(file: Path) -> set[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            return {name.removesuffix(".npy").lower() for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return set()


FAMILY = Family(name="Gemma Scope", recognises=recognises, read=read)
