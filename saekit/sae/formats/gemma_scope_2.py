"""Gemma Scope 2: JumpReLU SAEs and transcoders of Gemma 3, in safetensors with a config.json beside them.

Transcoders may have an affine skip, stored as [d_in, d_out]. Cross-layer transcoders write to several layers at once
and are refused. Source: the files of google/gemma-scope-2-*.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from ...errors import FileError
from .assembly import of_names, read_safetensors, saved
from .contents import files_ending, folder_of, json_at, tensor_shapes
from .family import Family
from .saved import SavedSAE

CONFIG = "config.json"
NAMES = {"w_enc": "W_enc", "w_dec": "W_dec", "b_enc": "b_enc", "b_dec": "b_dec", "threshold": "threshold"}
SKIP = "affine_skip_connection"
HOOKS = {
    "output": "hook_resid_post",
    "self_attn.o_proj.input": "attn.hook_z",
    "pre_feedforward_layernorm.output": "mlp.hook_in",
    "post_feedforward_layernorm.output": "hook_mlp_out",
}
"""What its configuration calls a place in a layer, and the hook point there."""


class Config(TypedDict, total=False):
    """What is read of config.json."""

    architecture: str
    hf_hook_point_in: str | None
    hf_hook_point_out: str | None
    model_name: str | None


def recognises(path: Path) -> bool:
    """Whether there are tensors with these lower-case names."""
    return any(tensor_shapes(p).keys() >= NAMES.keys() for p in files_ending(path, ".safetensors"))


def read(path: Path, said: Mapping[str, Any]) -> SavedSAE:
    """The SAE or transcoder; FileError for a cross-layer transcoder."""
    file = next(p for p in files_ending(path, ".safetensors") if tensor_shapes(p).keys() >= NAMES.keys())
    shape = tensor_shapes(file)["w_dec"]
    if len(shape) != 2:
        raise FileError(
            f"{file} is a cross-layer transcoder of {FAMILY.name}, whose features write to several layers",
            got=f"w_dec {shape}",
            accepted="an SAE, or a transcoder of one layer",
            fix="load one of the transcoders of single layers (transcoder/ or transcoder_all/ in its repository)",
        )
    cfg = json_at(folder_of(path) / CONFIG, Config)
    if cfg.get("architecture", "jump_relu") != "jump_relu":
        raise FileError(
            f"{file} is of {FAMILY.name} and of an architecture that saekit does not read",
            got=cfg["architecture"],
            accepted="jump_relu",
        )
    tensors = read_safetensors(file)
    weights = of_names(tensors, NAMES, FAMILY.name, file)
    fields: dict[str, Any] = {"hook_name": _hook(cfg.get("hf_hook_point_in"))}
    if "hf_hook_point_out" in cfg or SKIP in tensors:
        fields |= {"hook_out": _hook(cfg.get("hf_hook_point_out")), "skip": SKIP in tensors, "d_out": shape[1]}
    if SKIP in tensors:
        weights |= of_names(tensors, {SKIP: "W_skip"}, FAMILY.name, file)
    name = cfg.get("model_name")
    return saved(
        FAMILY.name, file, weights, activation="jumprelu", apply_b_dec_to_input=False, model_name=name, **fields
    )


def _hook(place: str | None) -> str | None:
    """The hook point of a place such as model.layers.9.output; None where it is not known."""
    found = re.fullmatch(r"(?:.*\.)?layers\.(\d+)\.(.+)", place or "")
    return f"blocks.{found[1]}.{HOOKS[found[2]]}" if found and found[2] in HOOKS else None


FAMILY = Family(name="Gemma Scope 2", recognises=recognises, read=read, beside=(CONFIG,))
