"""A module whose weights are brought up to date when someone looks at them.

A Trainer works in normalised units, on weights of its own. Folding the normalisation into the SAE it was given after
every step would cost a copy of all weights each time; so a step only says that the SAE is behind, and the first look at
a weight, in whatever way torch offers, does the work: all of them, those of a parent module too, go through
`_parameters` and `_buffers`, which are properties here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def _caught_up(name: str) -> Any:
    """A dictionary of weights that nn.Module keeps in `__dict__`, never behind for who reads it as an attribute."""

    def read(self: LazyWeights) -> dict[str, Any]:
        self._catch_up()
        try:
            return self.__dict__[name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(name) from None

    def write(self: LazyWeights, value: dict[str, Any]) -> None:
        self.__dict__[name] = value

    return property(read, write)


class LazyWeights(nn.Module):
    """A module that can be told how to bring its weights up to date, later.

    >>> from saekit.sae.lazy_weights import LazyWeights
    >>> module = LazyWeights()
    >>> module.weight = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
    >>> module.update_when_read(lambda m: m.weight.fill_(3.0))
    >>> module.weight.tolist()
    [3.0, 3.0]
    """

    _parameters = _caught_up("_parameters")
    _buffers = _caught_up("_buffers")

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
        if "_update" in self.__dict__ and (name in self.__dict__["_parameters"] or name in self.__dict__["_buffers"]):
            self._catch_up()
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        self._catch_up()
        return dict(self.__dict__)
