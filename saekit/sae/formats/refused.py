"""Families that are known and cannot be read: what they are, and what saekit lacks for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...errors import FileError
from .contents import files_ending, tensor_shapes
from .family import Family
from .saved import SavedSAE


def _reader(what: str, lacks: str, fix: str) -> Callable[[Path, Mapping[str, Any]], SavedSAE]:
    def read(path: Path, said: Mapping[str, Any]) -> SavedSAE:
        raise FileError(f"{path} is {what}, which saekit does not read", got=lacks, accepted="an SAE", fix=fix)

    return read


def _of_many_layers(path: Path) -> bool:
    """circuit-tracer's cross-layer transcoders: W_enc_3 and b_enc_3, or W_dec_3, in a file."""
    numbered = re.compile(r"(W_enc|W_dec)_\d+")
    return any(any(numbered.fullmatch(n) for n in tensor_shapes(p)) for p in files_ending(path, ".safetensors"))


def _temporal(path: Path) -> bool:
    """Temporal SAEs: attention layers beside a dictionary D and b."""
    return any(
        {"D", "b"} <= (shapes := tensor_shapes(p)).keys() and any(n.startswith("attn_layers.") for n in shapes)
        for p in files_ending(path, ".safetensors")
    )


CROSS_LAYER = Family(
    name="cross-layer transcoders",
    recognises=_of_many_layers,
    read=_reader(
        "a cross-layer transcoder",
        "features that write to several layers",
        "use transcoders of single layers (sk.load_transcoders)",
    ),
)
TEMPORAL = Family(
    name="temporal SAEs",
    recognises=_temporal,
    read=_reader(
        "a temporal SAE",
        "features that depend on the tokens before, through attention",
        "use an SAE that reads one token at a time",
    ),
)
