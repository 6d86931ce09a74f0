"""The kernel modules for tests: on a GPU as they are, elsewhere run by Triton's interpreter on CPU tensors.

Triton decides when it is first imported, and kernels when they are defined, so this is imported before anything else
that might. Afterwards the variable is gone again, and `available("cpu")` false, but for tests that use `interpreted`.
"""

from __future__ import annotations

import os
import sys

import pytest
import torch

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
if not ON_GPU:
    assert "triton" not in sys.modules, "triton was imported before TRITON_INTERPRET was set"
    os.environ["TRITON_INTERPRET"] = "1"

from saekit.sae.triton import adam, batch, checks, decode, encode, weight_grads  # noqa: E402, F401
from saekit.sae.triton.plan import Plan  # noqa: E402

os.environ.pop("TRITON_INTERPRET", None)

SMALL = Plan(kind="fused", tile_n=16, tile_f=64, tile_k=32, warps=4, stages=2)


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the public functions take the kernels on this machine."""
    if not ON_GPU:
        monkeypatch.setenv("TRITON_INTERPRET", "1")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers, the same in every run."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
