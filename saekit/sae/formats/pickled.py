"""Tensors in torch's own files, read without running any code that such a file may hold."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

from ...errors import FileError

SUFFIXES = (".pt", ".pth")


def state_at(path: Path) -> dict[str, Any]:
    """The state dictionary in a file; empty where it holds something else. FileError for one that is damaged or unsafe.

    `weights_only`: tensors, numbers and containers are read, and anything that would call a function is refused.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as e:  # torch raises what its unpickler or the zip reader happens to meet
        raise FileError(
            f"{path} cannot be read as tensors",
            got=str(e).split("\n", 1)[0][:200],
            accepted="a file of torch.save with tensors, numbers and text in dictionaries",
            fix="a whole model was pickled, or the file is damaged: save its state_dict() with its own library, or "
            "pass the tensors to sk.SAE.from_tensors",
        ) from e
    state = state if isinstance(state, dict) else {}
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and value.nbytes > value.untyped_storage().nbytes():
            raise FileError(
                f"{path}: {name} is larger than what the file holds of it",
                got=f"shape {tuple(value.shape)} of {value.untyped_storage().nbytes()} bytes",
                accepted="tensors that were saved in full",
                fix="call .contiguous() on it before it is saved",
            )
    return dict(state)


def keys_at(path: Path) -> set[str]:
    """The names in a state dictionary; empty where it cannot be read as one."""
    try:
        return {str(name) for name in state_at(path)}
    except FileError:
        return set()
