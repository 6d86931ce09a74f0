"""A Hugging Face model that is loaded already, made fit for a TransformerBridge without changing the caller's object.

A bridge puts modules of its own into the model it is given and switches its attention: the caller could no longer save
or compile his. So it gets a copy of the modules that shares the weights.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError
from .placement import find_device, find_dtype


def is_hugging_face_model(model: Any) -> bool:
    """Whether `model` is a model of transformers, without importing it where nobody else has."""
    transformers = sys.modules.get("transformers")
    return transformers is not None and isinstance(model, transformers.PreTrainedModel)


def name_of(model: Any) -> str:
    """What a Hugging Face model is called: its folder, its name on the hub, else its class."""
    name = str(getattr(model, "name_or_path", "") or "")
    return Path(name).resolve().name if name and Path(name).is_dir() else name or type(model).__name__


def shared_copy(
    model: Any, device: str | torch.device, dtype: str | torch.dtype | None, own_weights: bool = False
) -> Any:
    """A copy of `model` whose weights are the caller's own tensors, as long as device and dtype stay.

    "auto" and None leave them. `own_weights` copies them all, for whoever is about to change them. ConfigError for a
    model that cannot be put where it is asked for, or that a bridge already holds.
    """
    from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

    if any(isinstance(module, GeneralizedComponent) for module in model.modules()):
        raise ConfigError(
            "this model is part of a TransformerBridge already",
            got=type(model).__name__,
            accepted="the bridge, or a model that no bridge holds",
            fix="pass the bridge itself",
        )
    tensors = [*model.parameters(), *model.buffers()]
    if any(t.device.type == "meta" for t in model.parameters()):
        raise ConfigError(
            "a part of this model's weights is not loaded: they were left on the disk or in main memory",
            got=f"device_map: {getattr(model, 'hf_device_map', 'none')}",
            accepted="a model whose weights all lie on a device",
            fix='load it with dtype="bfloat16" or on more devices, so that nothing is offloaded',
        )
    to_device = None if isinstance(device, str) and device == "auto" else find_device(device)
    to_dtype = None if dtype is None else find_dtype(dtype, to_device or tensors[0].device)
    moved = to_device is not None and any(not _same(t.device, to_device) for t in tensors)
    cast = to_dtype is not None and any(t.is_floating_point() and t.dtype != to_dtype for t in model.parameters())
    if moved and len(set(getattr(model, "hf_device_map", {}).values())) > 1:
        raise ConfigError(
            "this model lies on several devices, as its device_map says",
            got=f"device={device}",
            accepted='device="auto", which leaves it there',
            fix="leave device out, or load the model on one device",
        )
    if (moved or cast) and getattr(model, "is_quantized", False):
        raise ConfigError(
            "a quantised model stays where and as it was loaded",
            got=f"device={device}, dtype={dtype}",
            accepted="neither of the two",
            fix="leave both out, or load it from its folder unquantised",
        )
    memo: dict[int, Any] = {}
    for p in model.parameters():
        data = p.detach().to(to_device if moved else None, to_dtype if cast and p.is_floating_point() else None)
        if own_weights and data.data_ptr() == p.data_ptr():
            data = data.clone()
        shares = data.data_ptr() == p.data_ptr() and data.dtype == p.dtype and data.device == p.device
        memo[id(p)] = p if shares else nn.Parameter(data, requires_grad=p.requires_grad)
    for b in model.buffers():
        memo[id(b)] = b.detach().to(to_device if moved else None, copy=True)
    made = copy.deepcopy(model, memo)
    made.config.architectures = [type(model).__name__]
    return made


def _same(one: torch.device, other: torch.device) -> bool:
    return one.type == other.type and (one.index or 0) == (other.index or 0)
