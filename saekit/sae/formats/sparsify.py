"""EleutherAI's sparsify: TopK SAEs and transcoders, a folder for each hook point with cfg.json and sae.safetensors.

    f = topk(relu((x - b_dec) @ encoder.weight.T + encoder.bias))    a transcoder does not subtract b_dec
    x_hat = f @ W_dec + b_dec + x @ W_skip.T

A folder is called after the module it is of. Source: github.com/EleutherAI/sparsify.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Required

from typing_extensions import TypedDict

from ...errors import FileError
from ...json_files import Count
from .assembly import of_names, read_safetensors, saved
from .contents import files_ending, folder_of, json_at, tensor_shapes
from .family import Family
from .layers import hooks_of_module
from .saved import SavedSAE

CONFIG, WEIGHTS, RUN = "cfg.json", "sae.safetensors", "config.json"
NAMES = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}


class Config(TypedDict, total=False):
    """What is read of cfg.json."""

    k: Required[Count]
    activation: str
    signed: bool
    transcode: bool


class Run(TypedDict, total=False):
    """What is read of the run's config.json."""

    model: Any
    dataset: str | None
    ctx_len: Count | None


def recognises(path: Path) -> bool:
    """Whether cfg.json has d_in and k but no architecture, and the tensors beside it are of a linear encoder."""
    cfg = json_at(folder_of(path) / CONFIG)
    if not {"d_in", "k"} <= cfg.keys() or "architecture" in cfg:
        return False
    return any("encoder.weight" in tensor_shapes(p) for p in files_ending(path, ".safetensors"))


def read(path: Path, said: Mapping[str, Any]) -> SavedSAE:
    """The SAE or transcoder; FileError for groupmax and for signed activations."""
    folder = folder_of(path)
    file = next(p for p in files_ending(path, ".safetensors") if "encoder.weight" in tensor_shapes(p))
    cfg = json_at(folder / CONFIG, Config)
    if cfg.get("activation", "topk") != "topk" or cfg.get("signed"):
        raise FileError(
            f"{file} is of {FAMILY.name} with an activation that saekit does not have",
            got="signed topk" if cfg.get("signed") else cfg["activation"],
            accepted="topk",
            fix="use an SAE of topk; or register groupmax with sk.register_architecture and use sk.SAE.from_tensors",
        )
    tensors = read_safetensors(file)
    weights = of_names(tensors, NAMES, FAMILY.name, file)
    weights["W_enc"] = weights["W_enc"].T
    into, out = hooks_of_module(folder.name)
    fields: dict[str, Any] = {"hook_name": out, "apply_b_dec_to_input": not cfg.get("transcode")}
    if cfg.get("transcode"):
        fields |= {"hook_name": into, "hook_out": out, "d_out": weights["W_dec"].shape[1]}
    if "W_skip" in tensors:
        weights |= {"W_skip": of_names(tensors, {"W_skip": "W_skip"}, FAMILY.name, file)["W_skip"].T}
        fields |= {"skip": True}
        if not cfg.get("transcode"):  # b_dec is subtracted before the encoder but not before the skip
            weights["b_enc"] = weights["b_enc"] - weights["b_dec"] @ weights["W_enc"]
            fields |= {"apply_b_dec_to_input": False, "hook_out": out}
    run = json_at(folder.parent / RUN, Run) or json_at(folder / RUN, Run)
    if isinstance(run.get("model"), str):
        fields |= {"model_name": run["model"], "dataset": run.get("dataset"), "context_size": run.get("ctx_len")}
    return saved(FAMILY.name, file, weights, activation="topk", k=cfg["k"], **fields)


FAMILY = Family(name="EleutherAI sparsify", recognises=recognises, read=read, beside=(CONFIG, WEIGHTS))
