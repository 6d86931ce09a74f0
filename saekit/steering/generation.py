"""Text written by a model while features are edited: whole (`generate`) or token by token (`stream`).

One loop serves both: left-padded rows, a key-value cache where the model keeps one, and hooks that edit whatever
tokens a step shows them, so that a step over one token edits it as a pass over the whole text would. What a row says
does not depend on the rows beside it, not even when it is sampled. Knows nothing of concepts or studies.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import ConfigError, ContextLengthError, DataError
from ..models import LanguageModel
from .edit_hooks import Span
from .edits import EDITS, Edit

Turns: TypeAlias = Sequence[Mapping[str, str]]
Prompt: TypeAlias = "str | Turns"
Edits: TypeAlias = "Edit | Sequence[Edit]"
FinishReason = Literal["eos", "length"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Generation:
    """What a model wrote after one prompt. Made by `generate`."""

    prompt: str
    """The text the model was given, with the chat template where one was used."""
    text: str
    """The new text only, without special tokens."""
    tokens: tuple[int, ...]
    """Ids of the new tokens, without the EOS that ended them."""
    n_prompt_tokens: int
    """Tokens of the prompt, BOS included."""
    finish_reason: FinishReason
    """eos: the model ended its text. length: max_new_tokens was reached."""
    edits: tuple[Edit, ...]
    temperature: float
    seed: int

    @property
    def full_text(self) -> str:
        """The prompt, template included, and the new text."""
        return self.prompt + self.text

    def __repr__(self) -> str:
        how = "greedy" if self.temperature == 0 else f"temperature {self.temperature:g}, seed {self.seed}"
        end = "ended by the model" if self.finish_reason == "eos" else "cut at max_new_tokens"
        edits = "; ".join(map(repr, self.edits)) or "none"
        return f"{self.text}\n  [{len(self.tokens)} tokens, {end}; {how}; edits: {edits}]"


@dataclass(frozen=True, kw_only=True)
class StreamToken:
    """One new token of a `stream`."""

    token: int
    text: str
    """What this token adds to the text; empty while a character's bytes are not complete."""
    position: int
    """Its position in the whole sequence, BOS being 0."""


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


@overload
def generate(
    model: LanguageModel,
    prompt: str,
    *,
    edits: Edits = ...,
    max_new_tokens: int = ...,
    temperature: float = ...,
    seed: int = ...,
    chat: bool = ...,
    use_cache: bool = ...,
) -> Generation: ...
@overload
def generate(
    model: LanguageModel,
    prompt: Sequence[Any],
    *,
    edits: Edits = ...,
    max_new_tokens: int = ...,
    temperature: float = ...,
    seed: int = ...,
    chat: bool = ...,
    use_cache: bool = ...,
) -> Any: ...
def generate(
    model: LanguageModel,
    prompt: Prompt | Sequence[Prompt],
    *,
    edits: Edits = (),
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool = False,
    use_cache: bool = True,
) -> Generation | list[Generation]:
    """A Generation, or a list of them for a list of prompts, which run as one padded batch.

    Each step takes the likeliest token at temperature 0, or samples from softmax(logits / temperature). Every row
    samples with its own generator, seeded by `seed` and the row's tokens: a prompt gets the same text alone and in any
    batch, and prompts given twice get different texts. `edits` are applied in order at every step (`Edit`), to all
    tokens but special ones and attention sinks (`resolve_token_filter` where an edit's SAE stores no filter). chat=True
    wraps each prompt, a user's message or a list of turns {"role": ..., "content": ...}, in the model's template.

    Raises DataError for an empty prompt or logits that are NaN, ContextLengthError when prompt and new tokens do not
    fit, MismatchError when an edit's SAE belongs to another model, ConfigError for other settings.

    >>> out = sk.generate(model, "the cat", edits=[sk.clamp(sae, {3: 2.0})], max_new_tokens=4)
    >>> len(out.tokens), out.n_prompt_tokens
    (4, 8)
    """
    one = isinstance(prompt, str) or (len(prompt) > 0 and isinstance(prompt[0], Mapping))
    prompts: list[Any] = [prompt] if one else list(prompt)
    chosen = check_edits(model, edits)
    rows = make_rows(model, prompts, edits=chosen, seed=seed, chat=chat)
    done = complete(model, rows, max_new_tokens=max_new_tokens, temperature=temperature, use_cache=use_cache)
    return done[0] if one else done


def stream(
    model: LanguageModel,
    prompt: Prompt,
    *,
    edits: Edits = (),
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool = False,
    stop: Callable[[], bool] | None = None,
) -> Iterator[StreamToken]:
    """An iterator of StreamToken, the same tokens that `generate` returns, each as soon as it is there.

    `stop` is asked before every token and ends the text when it says True. Errors as in `generate`, raised by the call
    itself.

    >>> "".join(t.text for t in sk.stream(model, "the cat", max_new_tokens=4)) == sk.generate(
    ...     model, "the cat", max_new_tokens=4).text
    True
    """
    rows = make_rows(model, [prompt], edits=check_edits(model, edits), seed=seed, chat=chat)
    steps = advance(model, rows, max_new_tokens=max_new_tokens, temperature=temperature, stop=stop)
    return (token for [token] in steps if token is not None)


def advance(
    model: LanguageModel,
    rows: Sequence[Row],
    *,
    max_new_tokens: int,
    temperature: float,
    stop: Callable[[], bool] | None = None,
) -> Iterator[list[StreamToken | None]]:
    """An iterator over steps: each row's next token, None once it has ended. The rows run as one batch.

    Settings are checked by the call itself; `check_edits` comes first.
    """
    loop = _Loop(model, rows, max_new_tokens=max_new_tokens, temperature=temperature, use_cache=True)

    def steps() -> Iterator[list[StreamToken | None]]:
        pieces = [_Pieces(model, row.ids) for row in rows]
        while not loop.finished and not (stop is not None and stop()):
            told: list[StreamToken | None] = []
            for row, piece, new, token in zip(rows, pieces, loop.new, loop.step(), strict=True):
                at = len(row.ids) + len(new) - 1
                told.append(None if token is None else StreamToken(token=token, text=piece.push(token), position=at))
            yield told

    return steps()


def check_edits(model: LanguageModel, edits: Edits) -> tuple[Edit, ...]:
    """`edits` as a tuple, each one's SAE being checked against the model."""
    chosen = (edits,) if isinstance(edits, Edit) else tuple(edits)
    for edit in chosen:
        if not isinstance(edit, Edit):
            raise ConfigError(
                "not an edit",
                got=edit,
                accepted="an sk.Edit of one of these kinds: " + ", ".join(EDITS),
                fix="edits=[sk.clamp(sae, {feature: value})]",
            )
        edit.check(model)
    return chosen


def make_rows(
    model: LanguageModel, prompts: Sequence[Prompt], *, edits: tuple[Edit, ...] = (), seed: int, chat: bool
) -> list[Row]:
    """The prompts as rows of token ids; equal prompts are numbered."""
    rows: list[Row] = []
    seen: Counter[tuple[int, ...]] = Counter()
    for prompt in prompts:
        if len(prompt) == 0:
            raise DataError("the prompt is empty", got=repr(prompt), fix="pass some text to continue")
        if not isinstance(prompt, str) and not chat:
            raise ConfigError("turns of a conversation need the chat template", got=prompt, fix="pass chat=True")
        text = model.chat_prompt(prompt if isinstance(prompt, str) else [dict(t) for t in prompt]) if chat else prompt
        ids = tuple(model.tokenize(str(text)))
        rows.append(Row(prompt=str(text), ids=ids, seed=seed, edits=edits, repeat=seen[ids]))
        seen[ids] += 1
    return rows


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


def complete(
    model: LanguageModel, rows: Sequence[Row], *, max_new_tokens: int, temperature: float, use_cache: bool = True
) -> list[Generation]:
    """The rows continued, each under its own edits, as one batch; `check_edits` comes first."""
    loop = _Loop(model, rows, max_new_tokens=max_new_tokens, temperature=temperature, use_cache=use_cache)
    while not loop.finished:
        loop.step()
    done = []
    for row, tokens, ended in zip(rows, loop.new, loop.ended, strict=True):
        pieces = _Pieces(model, row.ids)
        done.append(
            Generation(
                prompt=row.prompt,
                text="".join(map(pieces.push, tokens)),
                tokens=tuple(tokens),
                n_prompt_tokens=len(row.ids),
                finish_reason="eos" if ended else "length",
                edits=row.edits,
                temperature=temperature,
                seed=row.seed,
            )
        )
    return done


class _Loop:
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

    @torch.inference_mode()
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
            if not self.ended[i] and token == self.model.eos_id:
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
        cumulative = (logits / self.temperature).softmax(-1).double().cumsum(-1)
        uniform = torch.stack([torch.rand(1, generator=g, dtype=torch.float64) for g in self._generators])
        drawn = torch.searchsorted(cumulative, uniform.to(logits.device) * cumulative[:, -1:], right=True)
        return drawn[:, 0].clamp_max(logits.shape[-1] - 1)


class _Pieces:
    """Cuts new tokens into printable text. Bytes of a character that is not complete are held back.

    A token is decoded together with a few before it, since some tokenizers write a token's leading space only then.
    Bytes of a last character that is never completed are left out.
    """

    def __init__(self, model: LanguageModel, prompt_ids: Sequence[int]) -> None:
        self._model = model
        self._recent = list(prompt_ids[-4:])
        self._n_told = len(self._whole(self._recent)[0])

    def push(self, token: int) -> str:
        self._recent.append(token)
        text, is_whole = self._whole(self._recent)
        new = text[self._n_told :]
        self._n_told = max(self._n_told, len(text))
        if is_whole and len(self._recent) > 12:
            self._recent = self._recent[-4:]
            self._n_told = len(self._whole(self._recent)[0])
        return new

    def _whole(self, ids: Sequence[int]) -> tuple[str, bool]:
        text = self._model.decode(ids)
        return (text[:-1], False) if text.endswith("\ufffd") else (text, True)
