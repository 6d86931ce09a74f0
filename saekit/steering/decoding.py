"""Decoding: prompts as rows of tokens, and one step of all rows at a time while they are edited.

Left-padded rows, a key-value cache where the model keeps one, and hooks that edit whatever tokens a step shows them, so
that a step over one token edits it as a pass over the whole text would. What a row generates does not depend on the
rows beside it, not even when it is sampled.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ConfigError, ContextLengthError, DataError
from ..models import LanguageModel
from ..sae.precision import doubles
from .edit_hooks import Span
from .edits import Edit

Turns: TypeAlias = Sequence[Mapping[str, str]]
Prompt: TypeAlias = "str | Turns"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One sequence to be continued."""

    prompt: str
    ids: tuple[int, ...] = field(repr=False)
    seed: int
    edits: tuple[Edit, ...] = ()
    repeat: int = 0
    """How many equal prompts with this seed come before it: equal prompts sample different text."""

    def generator(self) -> torch.Generator:
        """The row's own random numbers: a function of seed, tokens and `repeat`, not of edits or of other rows."""
        digest = hashlib.sha256(f"{self.seed} {self.repeat} {self.ids}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def make_rows(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    *,
    edits: tuple[Edit, ...] = (),
    seed: int,
    chat: bool,
    prepend_bos: bool | None = None,
) -> list[Row]:
    """The prompts as rows of token ids; equal prompts are numbered. A chat template writes its own BOS."""
    rows: list[Row] = []
    seen: Counter[tuple[int, ...]] = Counter()
    for prompt in prompts:
        if not isinstance(prompt, (str, list, tuple)):
            raise no_prompt(prompt)
        if len(prompt) == 0:
            raise DataError("the prompt is empty", got=repr(prompt), fix="pass some text to continue")
        if not isinstance(prompt, str) and not chat:
            raise ConfigError("turns of a conversation need the chat template", got=prompt, fix="pass chat=True")
        text = (
            model.chat_prompt(
                prompt if isinstance(prompt, str) else [dict(t) if isinstance(t, Mapping) else t for t in prompt]
            )
            if chat
            else prompt
        )
        ids = tuple(model.tokenize(str(text), bos=False if chat else prepend_bos))
        rows.append(Row(prompt=str(text), ids=ids, seed=seed, edits=edits, repeat=seen[ids]))
        seen[ids] += 1
    return rows


def no_prompt(prompt: object) -> DataError:
    """The error for what is neither a text nor a conversation."""
    return DataError(
        "this is no prompt",
        got=f"{type(prompt).__name__}: {prompt!r:.80}",
        accepted="a string, or a list of turns with chat=True",
        fix="pass the text as a string",
    )


def check_room(model: LanguageModel, rows: Sequence[Row], max_new_tokens: int) -> None:
    """ContextLengthError when a row and its new tokens do not fit the model; ConfigError for a negative number."""
    if max_new_tokens < 0:
        raise ConfigError("max_new_tokens is negative", got=max_new_tokens, accepted="0 or more")
    longest = max((len(row.ids) for row in rows), default=0)
    if longest + max_new_tokens > model.n_ctx:
        raise ContextLengthError(
            "prompt and new tokens do not fit into the model's context",
            got=f"{longest} prompt tokens + {max_new_tokens} new",
            accepted=f"{model.n_ctx} together ({model.name})",
            fix="shorten the prompt or lower max_new_tokens",
        )


class Decoding:
    """Decoding, one step of all rows at a time. `new` holds each row's tokens so far."""

    def __init__(
        self, model: LanguageModel, rows: Sequence[Row], *, max_new_tokens: int, temperature: float, use_cache: bool
    ) -> None:
        check_room(model, rows, max_new_tokens)
        if not (temperature >= 0 and math.isfinite(temperature)):
            raise ConfigError("temperature is not usable", got=temperature, accepted="0 (greedy) or more")
        self.model, self.use_cache = model, use_cache
        self.temperature, self.max_new_tokens = temperature, max_new_tokens
        self.new: list[list[int]] = [[] for _ in rows]
        self.ended = [False] * len(rows)
        self.n_steps = 0
        self._generators = [row.generator() for row in rows] if temperature > 0 else []
        self._past: Any = None
        if rows:
            longest = max(len(row.ids) for row in rows)
            padded = [[model.pad_id] * (longest - len(row.ids)) + list(row.ids) for row in rows]
            n_pad = torch.tensor([longest - len(row.ids) for row in rows], device=model.device)
            attended = torch.arange(longest, device=model.device) >= n_pad.unsqueeze(1)
            self._padded = bool(n_pad.any())
            self._span = Span(torch.tensor(padded, device=model.device), attended)
            self._hooks = self._span.hooks([(*model.edits, *row.edits) for row in rows], model)

    @property
    def finished(self) -> bool:
        return self.n_steps >= self.max_new_tokens or all(self.ended)

    @torch.no_grad()
    def step(self) -> list[int | None]:
        """Each row's next token; None for a row that has ended."""
        span = self._span
        shown = span.tokens if self._past is None else span.tokens[:, -1:]
        mask = span.attended if self._padded else None
        with self.model.unedited():  # a steered model's edits are among the hooks, which know what was generated
            logits, self._past = self.model.forward(
                shown, hooks=self._hooks, attention_mask=mask, past=self._past, use_cache=self.use_cache
            )
        chosen = self._choose(logits[:, -1].float())
        out: list[int | None] = []
        for i, token in enumerate(chosen.tolist()):
            if not self.ended[i] and token in self.model.facts.end_ids:
                self.ended[i] = True
            if not self.ended[i]:
                self.new[i].append(token)
            out.append(None if self.ended[i] else token)
        span.append(chosen)
        self.n_steps += 1
        return out

    def _choose(self, logits: Float[Tensor, "batch d_vocab"]) -> Int[Tensor, " batch"]:
        if bool(logits.isnan().any()):
            raise DataError(
                "the model's logits are NaN",
                got=f"at new token {self.n_steps}",
                fix="lower the strength of the edits; without edits, check the model's weights and dtype",
            )
        if self.temperature == 0:
            return logits.argmax(-1)
        # One uniform number per row through the inverse cumulative distribution: a rounding difference in the logits
        # moves the outcome only where the number falls on a boundary.
        cumulative = doubles((logits / self.temperature).softmax(-1)).cumsum(-1)
        uniform = torch.stack([torch.rand(1, generator=g, dtype=torch.float64) for g in self._generators])
        drawn = torch.searchsorted(cumulative, uniform.to(cumulative.device) * cumulative[:, -1:], right=True)
        return drawn[:, 0].clamp_max(logits.shape[-1] - 1).to(logits.device)
