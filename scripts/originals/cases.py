"""The cases by name, and random weights to write into files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

D, N, K, N_VECTORS = 16, 64, 6, 1000
Original = Callable[[Tensor], tuple[Tensor, Tensor]]
"""x to features and reconstruction."""
CASES: dict[str, Callable[[Path], tuple[str, Original]]] = {}
"""By name: a function that writes files into a folder laid out as the repository they are published in, and says
where in it the SAE is, and what the original makes of it."""
RELEASES: dict[str, tuple[str, str]] = {}
"""SAELens' release and id of the cases that have one."""


def case(name: str, release: str | None = None, sae_id: str = "") -> Callable[[Any], Any]:
    def register(write: Callable[..., Any]) -> Any:
        CASES[name] = write
        if release:
            RELEASES[name] = (release, sae_id)
        return write

    return register


def normal(*shape: int, scale: float = 0.3) -> Tensor:
    return scale * torch.randn(*shape)


def thresholds() -> Tensor:
    return 0.2 + 1.5 * torch.rand(N)


def filled(module: torch.nn.Module) -> Any:
    """A module of the original with random weights; thresholds are positive."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.copy_(thresholds() if "threshold" in name else normal(*weight.shape).to(weight.dtype))
    return module.eval()


def saelens_weights() -> dict[str, Tensor]:
    return {"W_enc": normal(D, N), "b_enc": normal(N), "W_dec": normal(N, D), "b_dec": normal(D)}


def torch_file(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)


def tensors_file(path: Path, tensors: dict[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def json_file(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
