"""A module whose weights are brought up to date when someone looks at them.

A Trainer works in normalised units, on weights of its own. Folding the normalisation into the SAE it was given after
every step would cost a copy of all weights each time; so a step only says that the SAE is behind, and the first look at
a weight, in whatever way torch offers, does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn


class LazyWeights(nn.Module):
    """A module that can be told how to bring its weights up to date, later.

    >>> from saekit.sae.lazy_weights import LazyWeights
    >>> module = LazyWeights()
    >>> module.weight = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
    >>> module.update_when_read(lambda m: m.weight.fill_(3.0))
    >>> module.weight.tolist()
    [3.0, 3.0]
    """

    def update_when_read(self, update: Callable[[Any], object]) -> None:
        """`update(self)` is called before a weight is next looked at or written to, once."""
        self.__dict__["_update"] = update

    def _catch_up(self) -> None:
        if (update := self.__dict__.pop("_update", None)) is not None:
            update(self)

    def __getattr__(self, name: str) -> Any:
        self._catch_up()
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if "_update" in self.__dict__ and (name in self._parameters or name in self._buffers):
            self._catch_up()
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        self._catch_up()
        return dict(self.__dict__)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        self._catch_up()
        return super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _named_members(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        self._catch_up()
        return super()._named_members(*args, **kwargs)  # type: ignore[no-any-return]

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._catch_up()
        super()._save_to_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._catch_up()
        super()._load_from_state_dict(*args, **kwargs)
