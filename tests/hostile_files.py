"""Damage to files: flipped bytes, values that nobody expects, cut ends; and a limit on memory."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DEEP = "[" * 5000 + "]" * 5000
HOSTILE: tuple[bytes, ...] = (
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1000000000000",
    b"1" + b"0" * 400,
    b"1" * 5000,
    b"1e999",
    b"NaN",
    b"1.5",
    b'""',
    b'"no"',
    b'"../x"',
    b'"\\ud800"',
    b'"\xff\xfe"',
    b"[]",
    b"{}",
    b"[null]",
    b'{"a": {"b": []}}',
    DEEP.encode(),
)
"""What a JSON value is replaced by."""


@contextmanager
def at_most(n_bytes: int) -> Iterator[None]:
    """No more than so many bytes beside what is there already: a larger allocation fails."""
    with Path("/proc/self/statm").open() as f:
        there = int(f.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (there + n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def flips(content: bytes, n: int) -> Iterator[bytes]:
    """The content with one byte changed, at n places spread over it: one bit, or all of them."""
    for i in range(min(n, len(content))):
        at = i * len(content) // min(n, len(content))
        for mask in (1, 0xFF) if i % 3 == 0 else (1 << (i % 7),):
            yield content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]


def cuts(content: bytes) -> Iterator[bytes]:
    """The content without its end, and with something after it."""
    yield b""
    for part in (3, 2):
        yield content[: len(content) // part]
    yield content[:-1]
    yield content + b"\0"
    yield content + b"{}"


def _places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield here
    if isinstance(value, dict):
        for name, v in value.items():
            yield from _places(v, (*here, name))
    elif isinstance(value, list):
        for i, v in enumerate(value[:3]):
            yield from _places(v, (*here, i))


_MARK = "@@ here @@"


def replaced(content: bytes) -> Iterator[tuple[str, bytes]]:
    """A JSON file with each of its values in turn replaced by each hostile one, and each key left out in turn."""
    value = json.loads(content)
    for place in _places(value):
        changed = json.loads(content)
        if not place:
            yield from ((f"all = {v[:20]!r}", v) for v in HOSTILE)
            continue
        at = changed
        for step in place[:-1]:
            at = at[step]
        at[place[-1]] = _MARK
        text = json.dumps(changed).encode()
        yield from ((f"{place} = {v[:20]!r}", text.replace(f'"{_MARK}"'.encode(), v)) for v in HOSTILE)
        del at[place[-1]]
        yield f"{place} left out", json.dumps(changed).encode()
