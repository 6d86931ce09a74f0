"""Dataclasses of settings: what differs from the defaults first, the rest behind a click."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from .blocks import Block, details, facts


def fields_blocks(settings: Any, *, first: tuple[str, ...] = (), left_out: tuple[str, ...] = ()) -> list[Block | None]:
    """Two blocks: the fields named `first` and those that are not at their defaults, and all others, closed.

    >>> from saekit.display import fields_blocks
    >>> changed, rest = fields_blocks(sk.TrainConfig(n_tokens=10_000, batch_size=64))
    >>> "batch_size" in changed, "batch_size" in rest, "at their defaults" in rest
    (True, False, True)
    """
    changed: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for field in fields(settings):
        if field.name in left_out:
            continue
        value = getattr(settings, field.name)
        default = field.default if field.default is not MISSING else MISSING
        if default is MISSING and field.default_factory is not MISSING:
            default = field.default_factory()
        same = default is not MISSING and type(value) is type(default) and bool(value == default)
        (rest if same and field.name not in first else changed)[field.name] = value
    ordered = {name: changed.pop(name) for name in first if name in changed} | changed
    n = len(rest)
    return [facts(ordered), details(f"{n} field{'s' * (n != 1)} at their defaults", facts(rest))]
