"""A text of any length through a model and an SAE, window by window.

A text of at most 1,024 tokens is run whole, a longer one in windows of 512, unless a length is given. Each begins as
the first does (with BOS where the SAE's texts begin so) and then runs the last `overlap` tokens of the one before once
more, as context whose activations are dropped. So every token is read once, has at least `overlap` tokens before it
wherever the text has them, and no sink of a window's start falls on the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from ..errors import ConfigError, ContextLengthError
from .base import pack
from .highlight_standouts import Reference

if TYPE_CHECKING:
    from ..models import LanguageModel
    from ..sae import SAE

WHOLE, LENGTH = 1024, 512
"""Tokens of a text that is run whole, and in a window of a longer one, unless told otherwise: the cost of attention
grows with the square, and a window is the step in which reading shows how far it is and can be stopped."""
UNREAD = "not read"


@dataclass(frozen=True, kw_only=True)
class ReadWindow:
    """What one window adds: tokens first to last, and their activations."""

    first: int
    last: int
    excluded: list[str]
    """Why each of these tokens is not counted; empty for those that are."""
    token: Int[np.ndarray, " n"]
    feature: Int[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """How a text of `n_tokens` tokens is cut.

    >>> from saekit.widgets.highlight_reading import WindowPlan
    >>> plan = WindowPlan(n_tokens=11, n_prefix=1, length=6, overlap=2)
    >>> plan.windows  # (first token run, first token kept, end)
    [(1, 0, 6), (4, 6, 9), (7, 9, 11)]
    """

    n_tokens: int
    n_prefix: int
    """Tokens with which every window begins: the BOS, or none."""
    length: int
    overlap: int
    windows: list[tuple[int, int, int]] = field(init=False)
    """For each window the first token it runs after the prefix, the first whose activations are kept, and its end."""

    def __post_init__(self) -> None:
        end = min(self.n_tokens, self.length)
        found = [(self.n_prefix, 0, end)]
        room = self.length - self.n_prefix
        while end < self.n_tokens:
            first = end - self.overlap
            found.append((first, end, min(self.n_tokens, first + room)))
            end = found[-1][2]
        object.__setattr__(self, "windows", found)

    def describe(self) -> str:
        """How it is read, in words; nothing for one window."""
        if len(self.windows) == 1:
            return ""
        bos = ", each begun with BOS" if self.n_prefix else ""
        context = f" and the {self.overlap:,} tokens before it as context" if self.overlap else ""
        return f"Read in {len(self.windows):,} windows of {self.length:,} tokens{bos}{context}."


def check_windows(model: LanguageModel, length: int | None, overlap: int | None) -> tuple[int, int, int]:
    """Tokens of a text that is run whole, and length and overlap of the windows of a longer one.

    By default 1,024, 512 and a quarter of the length; never more than the model's context.
    """
    if length is not None and length > model.n_ctx:
        raise ContextLengthError(
            f"windows of {length} tokens are longer than the context of {model.name}",
            got=length,
            accepted=f"2 to {model.n_ctx}",
            fix="leave length out",
        )
    whole = min(WHOLE, model.n_ctx) if length is None else length
    size = min(LENGTH, model.n_ctx) if length is None else length
    shared = size // 4 if overlap is None else overlap
    if size < 2 or shared > size - 2:
        raise ConfigError(
            "a window has no room for new text",
            got=f"length={size}, overlap={shared}",
            accepted="a length of at least 2, and an overlap at least 2 smaller",
            fix="leave overlap out",
        )
    return whole, size, shared


def plan_windows(
    model: LanguageModel, ids: Sequence[int], bos: bool | None, whole: int, length: int, overlap: int
) -> WindowPlan:
    """The windows of a text's token ids, which have BOS at their head where the model's texts do; see check_windows."""
    begins = model.begins_with_bos(bos) and bool(ids) and ids[0] == model.facts.bos_id
    size = whole if len(ids) <= whole else length
    return WindowPlan(n_tokens=len(ids), n_prefix=int(begins), length=size, overlap=overlap)


def read_windows(model: LanguageModel, sae: SAE, ids: Sequence[int], plan: WindowPlan) -> Iterator[ReadWindow]:
    """The activations of each window in turn."""
    import torch

    from ..activations import resolve_token_filter

    hook_name = sae.config.hook_name
    assert hook_name is not None  # checked by whoever calls
    token_filter = resolve_token_filter(model, sae)
    special = set(token_filter.special_ids)
    prefix = list(ids[: plan.n_prefix])
    for first, kept_from, end in plan.windows:
        n_dropped = plan.n_prefix + kept_from - first if kept_from else 0
        x = model.activations([*prefix, *ids[first:end]], hook_name)[0][n_dropped:]
        tokens = torch.tensor(ids[kept_from:end], device=x.device)
        kept = token_filter.keep(tokens, x)
        with torch.inference_mode():
            acts = sae.encode_sparse(x[kept].to(sae.W_enc.device))
        place = torch.nonzero(kept).flatten().cpu().numpy()
        yield ReadWindow(
            first=kept_from,
            last=end,
            excluded=[
                "" if keep else "special token" if i in special else "attention sink"
                for i, keep in zip(ids[kept_from:end], kept.tolist(), strict=True)
            ],
            token=kept_from + place[acts.token.cpu().numpy()],
            feature=acts.feature.cpu().numpy(),
            value=acts.value.float().cpu().numpy(),
        )


class TextSoFar:
    """What is read of a text, as the traits of its widget."""

    def __init__(
        self, n_tokens: int, reference: Reference, name: Callable[[list[int]], dict[str, str]] | None = None
    ) -> None:
        self._reference, self._name = reference, name
        self.n_tokens, self.n_read = n_tokens, 0
        self._start = [np.zeros(1, np.int64)]
        self._feature: list[bytes] = []
        self._value: list[bytes] = []
        self._excluded: list[str] = []
        self._names: dict[str, str] = {}

    def add(self, part: ReadWindow) -> None:
        """Takes the next window."""
        rows = pack_rows(part.token - part.first, part.feature, part.value, part.last - part.first)
        self._start.append(self._start[-1][-1] + np.frombuffer(rows["start"], "<i4")[1:])
        self._feature.append(rows["feature"])
        self._value.append(rows["value"])
        self._excluded += part.excluded
        self.n_read = part.last

    def traits(self) -> dict[str, Any]:
        """Activations, statistics and names of what is read; the tokens after it are excluded as not read."""
        n_left = self.n_tokens - self.n_read
        start = np.concatenate([*self._start, np.full(n_left, self._start[-1][-1])])
        acts = {"start": pack(start, "int32"), "feature": b"".join(self._feature), "value": b"".join(self._value)}
        feature, value = np.frombuffer(acts["feature"], "<i4"), np.frombuffer(acts["value"], "<f4")
        statistics = self._reference.statistics(feature, value, self._excluded.count(""))
        if self._name is not None:
            new = [i for i in statistics.feature.tolist() if str(i) not in self._names]
            self._names = {**self._names, **self._name(new)} if new else self._names
        return {
            "acts": acts,
            "excluded": [*self._excluded, *[UNREAD] * n_left],
            "statistics": statistics.packed(),
            "names": self._names,
            "n_read": self.n_read,
        }


def pack_rows(row: Any, feature: Any, value: Any, n_tokens: int) -> dict[str, bytes]:
    """The `acts` trait from coordinates: compressed rows, features ascending within a token, zeros dropped."""
    row, feature, value = np.asarray(row), np.asarray(feature), np.asarray(value)
    fires = value != 0
    row, feature, value = row[fires], feature[fires], value[fires]
    order = np.lexsort((feature, row))
    start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n_tokens))])
    return {
        "start": pack(start, "int32"),
        "feature": pack(feature[order], "int32"),
        "value": pack(value[order], "float32"),
    }
