"""Loading an SAE: find the folder, ask the family of its files to read it, and make an SAE of what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ...errors import FileError, unknown_name
from ..base import SAE
from ..config import SAEConfig
from . import registry
from .packaged import packaged_folder


def load_sae(path_or_name: str | Path, **said: Any) -> SAE:
    """The SAE in a folder, or the packaged one of that name (see `list_saes`). Weights come as float32 or float64.

    Every family of files in `formats/registry.py` is recognised by its content. `said` is what the files leave out:
    fields of SAEConfig such as hook_name, hook_out, k or model_name, and activation_scale, what activations were
    multiplied by in training.

    Raises UnknownNameError for a name that does not exist, and FileError, naming the file, for one that is missing,
    truncated, altered, or of an architecture saekit does not read.

    >>> sk.load_sae(sae.save(tmp_path / "sae")).config.k == sae.config.k
    True
    """
    folder = Path(path_or_name).expanduser()
    if not folder.exists():
        folder = packaged_folder(path_or_name)
    if folder.is_dir() and registry.family_of(folder) is None:
        _check_alone(folder)
    saved = registry.read(folder, said)
    sae = SAE(_with(saved.config, said))
    for name, tensor in saved.weights.items():
        getattr(sae, name).detach().copy_(tensor)
    if saved.fingerprint not in (None, sae.fingerprint):
        raise FileError(
            f"{saved.path} does not describe the weights beside it",
            got=sae.fingerprint,
            accepted=saved.fingerprint,
            fix="one of the two files was altered: restore both from where they came, or train the SAE again",
        )
    sae.requires_grad_(False)  # as `train` hands it out
    sae.training_summary, sae.density = saved.training, saved.density
    return sae


def _check_alone(folder: Path) -> None:
    """FileError for a folder whose folders hold SAEs, rather than that it holds none."""
    inside = sorted(p.name for p in folder.iterdir() if p.is_dir() and registry.family_of(p) is not None)
    if inside:
        raise FileError(
            f"{folder} holds several SAEs, a folder each",
            got=", ".join(inside[:20]) + (f", ... ({len(inside)} in all)" if len(inside) > 20 else ""),
            accepted="the folder of one",
            fix=f'load one of them, for example sk.load_sae("{folder / inside[0]}")',
        )


NOT_FIELDS = ("activation_scale", "normalize_activations")
"""What can be said to `load_sae` that no configuration has: it is folded into the weights."""


def _with(config: SAEConfig, said: Mapping[str, Any]) -> SAEConfig:
    """The configuration with what the caller knows; UnknownNameError for what is no field of it."""
    known = [f.name for f in fields(config)]
    for name in said:
        if name not in known and name not in NOT_FIELDS:
            raise unknown_name("keyword of load_sae", name, [*known, *NOT_FIELDS])
    return config.replace(**{name: value for name, value in said.items() if name in known})
