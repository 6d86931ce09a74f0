"""SAELens before version 6: the same tensors, and a flat cfg.json.

Its fields are renamed and put where version 6 has them; what was left to run time then is folded as now. Source:
SAELens 5, config.py, and the defaults of versions before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from ...errors import FileError
from . import saelens
from .contents import folder_of, json_at
from .family import Family
from .saved import SavedSAE

CONFIG = saelens.CONFIG
RENAMED = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn": "activation_fn_str"}
METADATA = (
    "model_name",
    "hook_name",
    "hook_head_index",
    "context_size",
    "prepend_bos",
    "dataset_path",
    "exclude_special_tokens",
    "model_from_pretrained_kwargs",
)


class Flat(TypedDict, total=False):
    """What is read here of a flat cfg.json; the rest is checked as that of version 6."""

    activation_fn_str: str
    activation_fn: str
    activation_fn_kwargs: dict[str, Any] | None


def recognises(path: Path) -> bool:
    """Whether cfg.json has d_in and d_sae, and the hook point or the activation beside them rather than in metadata."""
    cfg = json_at(folder_of(path) / CONFIG)
    flat = {"hook_name", "hook_point", "activation_fn_str", "activation_fn"} & cfg.keys()
    return {"d_in", "d_sae"} <= cfg.keys() and bool(flat) and "metadata" not in cfg


def read(path: Path, said: Mapping[str, Any]) -> SavedSAE:
    """The SAE; FileError for an activation other than relu and topk."""
    folder = folder_of(path)
    return saelens.read_as(_current(json_at(folder / CONFIG, Flat), folder / CONFIG), folder, said)


def _current(cfg: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The configuration as version 6 would write it."""
    old = {RENAMED.get(name, name): value for name, value in cfg.items()}
    activation, options = old.get("activation_fn_str", "relu"), old.get("activation_fn_kwargs") or {}
    architecture = old.get("architecture", "standard")
    if activation not in ("relu", "topk"):
        raise FileError(
            f"{path} is of {FAMILY.name} with an activation that saekit does not have",
            got=activation,
            accepted="relu, topk",
        )
    if activation == "topk":
        architecture, old["k"] = "topk", options.get("k", old.get("k"))
    normalise = old.get("normalize_activations") or "none"  # False in early versions, where True is
    metadata = {name: old[name] for name in METADATA if name in old} | {"sae_lens_version": saelens.SAELENS_VERSION}
    return {
        "d_in": old["d_in"],
        "d_sae": old["d_sae"],
        "architecture": architecture,
        "k": old.get("k"),
        "dtype": old.get("dtype", "float32"),
        "apply_b_dec_to_input": old.get("apply_b_dec_to_input", True),
        "normalize_activations": "expected_average_only_in" if normalise is True else normalise,
        "finetuning_scaling_factor": old.get("finetuning_scaling_factor", False),
        "metadata": metadata,
    }


FAMILY = Family(
    name="SAELens before 6", recognises=recognises, read=read, beside=(CONFIG, saelens.WEIGHTS, saelens.SPARSITY)
)
