"""Gemma Scope: JumpReLU SAEs and transcoders of Gemma 2, each in a params.npz.

b_dec is not subtracted from the input. The file says neither which hook point it is of nor whether it is a transcoder:
`load_sae(path, hook_name=..., hook_out=...)` does. SAEs of embeddings were trained before Gemma multiplies those by
sqrt(d_model): activation_scale=d_model**-0.5 fits them to hook_embed. (SAELens scales W_enc and W_dec so, but not
b_dec.) Source: Lieberum et al. 2024, arXiv:2408.05147.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import FileError
from .assembly import fold_scale, of_names, saved
from .contents import files_ending
from .family import Family
from .saved import SavedSAE

NAMES = {"w_enc": "W_enc", "w_dec": "W_dec", "b_enc": "b_enc", "b_dec": "b_dec", "threshold": "threshold"}


def recognises(path: Path) -> bool:
    """Whether there is an archive of arrays with these names."""
    return any(_names(p) >= NAMES.keys() for p in files_ending(path, ".npz"))


def read(path: Path, said: Mapping[str, Any]) -> SavedSAE:
    """The SAE, or the transcoder where `said` has a hook_out."""
    file = next(p for p in files_ending(path, ".npz") if _names(p) >= NAMES.keys())
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = {name.lower(): torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile) as e:
        raise FileError(
            f"{file} is not a whole archive of arrays", got=e, accepted="params.npz", fix="fetch or copy it again"
        ) from e
    weights = of_names(found, NAMES, FAMILY.name, file)
    if scale := said.get("activation_scale"):  # embeddings
        fold_scale(weights, scale)
    return saved(FAMILY.name, file, weights, activation="jumprelu", apply_b_dec_to_input=False)


def _names(file: Path) -> set[str]:
    try:
        with zipfile.ZipFile(file) as archive:
            return {name.removesuffix(".npy").lower() for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return set()


FAMILY = Family(name="Gemma Scope", recognises=recognises, read=read)
