"""Activations that a function draws: synthetic data, or whatever a function of a batch size and a seed gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import DataError, MismatchError
from ..hook_points import HookPoint, hook_text
from ..sae import TokenFilter
from .batches import ActivationBatches
from .prefetch import checked_device
from .source import Provenance

BatchFunction = Callable[[int, int], Iterator[Tensor]]
"""(batch_size, seed) -> endless batches [batch_size, d_in], the same for the same seed."""


class StreamActivations:
    """Batches of a function as a source of activations. Each token is seen once.

    >>> truth = sk.synthetic.independent(d_model=16, n_features=64, n_active=3)
    >>> source = sk.activations.StreamActivations(truth.batches)
    >>> next(source.batches(32)).shape
    torch.Size([32, 16])
    """

    hook_name: HookPoint = "stream"
    provenance = Provenance(
        model_name="stream", model_fingerprint="stream", weight_processing="none", context_size=1, dataset=None
    )

    def __init__(self, function: BatchFunction, seed: int = 0) -> None:
        first = next(function(2, seed))
        self._function, self.d_in = function, first.shape[1]
        self.digest = hashlib.sha256(first.numpy().tobytes()).hexdigest()[:16]
        """16 hexadecimal digits of the first two tokens drawn."""

    def at(self, hook_name: HookPoint) -> Self:
        if hook_name != self.hook_name:
            raise MismatchError(
                "a stream of activations has one hook point",
                got=hook_text(hook_name),
                accepted=repr(self.hook_name),
                fix="leave hook_name out",
            )
        return self

    def batches(
        self, batch_size: int, seed: int = 0, n_epochs: int | None = None, device: str | torch.device = "cpu"
    ) -> ActivationBatches:
        return _StreamBatches(self, self._function(batch_size, seed), batch_size, seed, checked_device(device))


class _StreamBatches(ActivationBatches):
    def __init__(
        self, stream: StreamActivations, batches: Iterator[Tensor], batch_size: int, seed: int, device: torch.device
    ) -> None:
        self.hook_name, self.widths, self.token_filter = stream.hook_name, (stream.d_in,), TokenFilter()
        self.batch_size, self.device, self._batches, self._n_drawn = batch_size, device, batches, 0
        self._identity = {"kind": "stream", "stream": stream.digest, "batch_size": batch_size, "seed": seed}

    @property
    def n_tokens_per_epoch(self) -> None:
        return None

    @property
    def origin(self) -> dict[str, str]:
        return {"digest": str(self._identity["stream"]), "described": "batches of a function: the first two tokens"}

    def __next__(self) -> Float[Tensor, "batch d_in"]:
        x = next(self._batches, None)
        if x is None:
            raise DataError(
                "the batches came to an end",
                got=f"{self._n_drawn} batches of {self.batch_size}",
                accepted="batches without end",
                fix="pass fewer tokens, or a function that draws fresh ones",
            )
        self._n_drawn += 1
        return x.to(self.device)

    def state_dict(self) -> dict[str, Any]:
        return {"identity": self._identity, "n_drawn": self._n_drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._check_state(state, self._identity)
        while self._n_drawn < state["n_drawn"]:
            next(self)
