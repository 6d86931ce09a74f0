"""circuit-tracer's sets of transcoders: layer_0.safetensors, layer_1.safetensors, ... with a config.yaml.

    f = relu or jumprelu(x @ W_enc.T + b_enc)
    y = f @ W_dec + b_dec + x @ W_skip.T

W_enc lies as [d_sae, d_in], which tells such a file from others. The configuration names the model and the hook points.
Source: github.com/decoderesearch/circuit-tracer, transcoder/single_layer_transcoder.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from ...errors import FileError
from ...json_files import checked, read_yaml
from .assembly import of_names, read_safetensors, saved
from .contents import files_ending, folder_of, tensor_shapes
from .family import Family
from .saved import SavedSAE

CONFIG = "config.yaml"
NAMES = {name: name for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
THRESHOLD = "activation_function.threshold"


class SetConfig(TypedDict, total=False):
    """What is read of config.yaml."""

    model_kind: str | None
    model_name: str | None
    feature_input_hook: str
    feature_output_hook: str
    transcoders: list[str] | None


def recognises(path: Path) -> bool:
    """Whether there are transcoders, or a config.yaml that lists some."""
    return bool(layer_files(path)) or set_config(path).get("model_kind") == "transcoder_set"


def read(path: Path, said: Mapping[str, Any]) -> SavedSAE:
    """The transcoder in a file, or the only one in a folder; FileError for a set."""
    cfg, files = set_config(path), layer_files(path)
    if len(files) != 1:
        raise FileError(
            f"{path} is a set of transcoders",
            got=f"{len(files) or len(cfg.get('transcoders') or [])} layers",
            accepted="one layer's file",
            fix=f'sk.load_transcoders("{path}") returns them all'
            + (f'; sk.load_sae("{files[0]}") returns one' if files else ""),
        )
    [file] = files
    tensors = read_safetensors(file)
    weights = of_names(tensors, NAMES, FAMILY.name, file)
    weights["W_enc"] = weights["W_enc"].T
    fields: dict[str, Any] = {"activation": "relu"}
    if THRESHOLD in tensors:
        weights |= of_names(tensors, {THRESHOLD: "threshold"}, FAMILY.name, file)
        weights["threshold"] = weights["threshold"].reshape(-1).expand(len(weights["b_enc"])).clone()
        fields = {"activation": "jumprelu"}
        if bool((weights["threshold"] < 0).any()):
            raise FileError(
                f"{file} has thresholds below 0, where {FAMILY.name} has negative activations and saekit none",
                got=f"{int((weights['threshold'] < 0).sum())} of {len(weights['threshold'])} below 0",
                accepted="thresholds of at least 0",
            )
    if "W_skip" in tensors:
        weights["W_skip"] = of_names(tensors, {"W_skip": "W_skip"}, FAMILY.name, file)["W_skip"].T
    numbered = re.search(r"(\d+)$", file.stem)
    if numbered and {"feature_input_hook", "feature_output_hook"} <= cfg.keys():
        layer = int(numbered[1])
        fields["hook_name"] = f"blocks.{layer}.{cfg['feature_input_hook']}"
        fields["hook_out"] = f"blocks.{layer}.{cfg['feature_output_hook']}"
    d_out = weights["W_dec"].shape[1]
    return saved(
        FAMILY.name, file, weights, skip="W_skip" in tensors, d_out=d_out, model_name=cfg.get("model_name"), **fields
    )


def layer_files(path: Path) -> list[Path]:
    """The files of transcoders there: those whose encoder has a row for each feature."""
    found = []
    for file in files_ending(path, ".safetensors"):
        shapes = tensor_shapes(file)
        if not shapes.keys() >= NAMES.keys() or len(shapes["W_enc"]) != 2:
            continue
        rows, columns = shapes["W_enc"]
        square = rows == columns and (folder_of(path) / CONFIG).is_file()
        if shapes["b_enc"] == (rows,) and shapes["W_dec"][0] == rows and (rows != columns or square):
            found.append(file)
    return found


def set_config(path: Path) -> dict[str, Any]:
    """The config.yaml beside or in `path`; empty where there is none."""
    file = folder_of(path) / CONFIG
    value = read_yaml(file, fix="fetch or copy it again") if file.is_file() else {}
    return checked(value, SetConfig, file) if isinstance(value, dict) else {}


FAMILY = Family(name="circuit-tracer", recognises=recognises, read=read, beside=(CONFIG,))
