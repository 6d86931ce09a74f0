"""Work that is under way before its result is asked for: copies to a GPU, and the next item of an iterator.

Nothing outlives its use: a thread ends with the one item it was started for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ..errors import ConfigError

T = TypeVar("T")
SECONDS_BETWEEN_LOOKS = 0.05
"""Waiting is done in pieces of this length, which an interrupt ends on every system."""


def checked_device(device: str | torch.device) -> torch.device:
    """The device of that name; ConfigError when there is no such device here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as e:
        raise ConfigError(
            "no such device here",
            got=device,
            accepted='"cpu", or "cuda" where torch finds a GPU',
            fix='pass device="cpu"',
        ) from e
    return torch.device(device)


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """`x` on a device. The host does not wait for a copy to a GPU, which goes through pinned memory."""
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def prefetch(items: Iterator[T], *, thread: bool) -> Iterator[T]:
    """The same items, each asked for before the one in front of it is handed out; an error comes in its item's place.

    With `thread` a thread asks, so that the work of making an item is done while its predecessor is in use. Without,
    the caller asks, which is enough where making an item only launches work on a GPU. Prefetching begins with the
    second item: who takes one and stops has paid for one.

    >>> from saekit.activations.prefetch import prefetch
    >>> list(prefetch(iter([1, 2, 3]), thread=True))
    [1, 2, 3]
    """
    for first in items:
        yield first
        break
    coming = _Upcoming(items, thread)
    while (item := coming.result()) is not None:
        coming = _Upcoming(items, thread)
        yield item[0]


class _Upcoming(Generic[T]):
    """The next item of an iterator, being made."""

    def __init__(self, items: Iterator[T], thread: bool) -> None:
        self._items = items
        self._item: tuple[T] | None = None
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._make, name="saekit prefetch") if thread else None
        if self._thread is None:
            self._make()
        else:
            self._thread.start()

    def _make(self) -> None:
        try:
            self._item = (next(self._items),)
        except StopIteration:
            pass
        except BaseException as e:
            if self._thread is None and not isinstance(e, Exception):  # an interrupt does not wait for its turn
                raise
            self._error = e
        finally:
            self._ended.set()

    def result(self) -> tuple[T] | None:
        """The item, in a tuple, once it is made; None after the last. Raises what making it raised.

        An interrupt is raised once the item is made, since making it has hooks on the model; a second one at once.
        """
        try:
            self._wait()
        except KeyboardInterrupt:
            self._wait()
            raise
        if self._error is not None:
            raise self._error
        return self._item

    def _wait(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):  # not join, which an interrupt makes useless for good
            pass
