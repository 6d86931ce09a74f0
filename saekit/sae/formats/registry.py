"""The families of SAE files, one line each, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safetensors import SafetensorError

from ...errors import FileError
from ...json_files import damaged
from . import (
    circuit_tracer,
    dictionary_learning,
    gemma_scope,
    gemma_scope_2,
    llama_scope,
    openai,
    refused,
    saelens,
    saelens_5,
    sparsify,
    torch_tensors,
)
from .contents import files_ending
from .family import Family
from .pickled import SUFFIXES, state_at
from .saved import SavedSAE

FAMILIES: tuple[Family, ...] = (
    saelens_5.FAMILY,
    sparsify.FAMILY,
    dictionary_learning.FAMILY,
    llama_scope.FAMILY,
    gemma_scope.FAMILY,
    gemma_scope_2.FAMILY,
    refused.CROSS_LAYER,
    refused.TEMPORAL,
    saelens.FAMILY,
    circuit_tracer.FAMILY,
    openai.FAMILY,
    torch_tensors.FAMILY,
)
NOTHING: Mapping[str, Any] = MappingProxyType({})


def family_of(path: Path) -> Family | None:
    """The family that recognises what lies at `path`; None where none does."""
    with damaged(path):
        return next((family for family in FAMILIES if family.recognises(path)), None)


def read(path: Path, said: Mapping[str, Any] = NOTHING) -> SavedSAE:
    """The SAE in a folder or a file, by the family that recognises it; FileError where none does.

    `said` is what is known beside the files: fields of SAEConfig that a family leaves out, and activation_scale, what
    activations were multiplied by in training where the file does not say.
    """
    if family := family_of(path):
        with damaged(path, also=(SafetensorError,)):
            return family.read(path, said)
    for file in files_ending(path, *SUFFIXES):
        state_at(file)  # says so where it cannot be read at all
    there = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "an empty folder" if path.is_dir() else path.name
    raise FileError(
        f"{path} is of no family of SAE files that saekit knows",
        got=there,
        accepted=", ".join(f.name for f in FAMILIES if f not in (refused.CROSS_LAYER, refused.TEMPORAL)),
        fix="pass the folder or the file that holds the weights of one SAE, or its tensors to sk.SAE.from_tensors",
    )
