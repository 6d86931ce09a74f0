"""What an edit costs beyond fluency: relevance to the prompt, KL from the unsteered model, and drift of other features.

All metrics come from running the model again over a text that was generated under an edit: with the edit, and without.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..activations import resolve_token_filter
from ..models import LanguageModel
from ..models.likelihood import token_nll
from ..sae import SAE
from ..sae.precision import doubles
from .edit_hooks import Span
from .edits import Edit


@dataclass(frozen=True)
class TextSample:
    """A generated text: its prompt, the tokens it was generated from, the new tokens, and the edits."""

    prompt: tuple[int, ...]
    """The prompt's tokens, which the text is scored against."""
    context: tuple[int, ...]
    """The tokens it was generated from; other than `prompt` where an instruction was put behind the prompt."""
    new: tuple[int, ...]
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True)
class Cost:
    """The metrics of one text; nan where there are no new tokens."""

    nll: float
    """Mean of -log p(new token | all before it) under the unsteered model given `prompt`, in nats."""
    kl: float
    """Mean over new tokens of KL(as generated || unsteered given `prompt`), in nats."""
    profile: Float[Tensor, " d_sae"]
    """Each feature's mean activation over the new tokens, as the unsteered model reads them."""


@dataclass(frozen=True)
class Readout:
    """A text token by token, as the unsteered model reads it."""

    nll: Float[Tensor, " n_new"]
    """-log p(new token | all before it) under the unsteered model given `prompt`, in nats."""
    before: Float[Tensor, "n_new d_vocab"]
    """Log-probabilities at each new token's place under the unsteered model given `prompt`."""
    after: Float[Tensor, "n_new d_vocab"]
    """The same as the text was generated: under its edits, given `context`."""
    feature_acts: Float[Tensor, "n_new d_sae"]
    """0 on tokens that the SAE's token filter leaves out (`resolve_token_filter`)."""


@torch.no_grad()
def cost(model: LanguageModel, sae: SAE, texts: Sequence[TextSample]) -> list[Cost]:
    """The costs of some texts, which run side by side: one pass without edits and one as each was generated.

    >>> from saekit.steering.readout import TextSample, cost
    >>> [found] = cost(model, sae, [TextSample((0, 5), (0, 5), (6, 7))])
    >>> found.kl, found.profile.shape
    (0.0, torch.Size([64]))
    """
    return [_cost(reading) for reading in read(model, sae, texts)]


@torch.no_grad()
def read(model: LanguageModel, sae: SAE, texts: Sequence[TextSample]) -> Iterator[Readout]:
    """How the model reads some texts, which run side by side: one pass without edits and one as each was generated.

    One reading at a time: each holds two rows of the vocabulary for every token.

    >>> from saekit.steering.readout import TextSample, read
    >>> [found] = read(model, sae, [TextSample((0, 5), (0, 5), (6, 7))])
    >>> found.nll.shape, bool((found.before == found.after).all())
    (torch.Size([2]), True)
    """
    seen: list[Tensor] = []
    clean = _logits(model, [t.prompt for t in texts], texts, [()] * len(texts), (str(sae.config.hook_name), seen))
    differ = [i for i, t in enumerate(texts) if t.edits or t.context != t.prompt]
    rows = [texts[i] for i in differ]
    found = _logits(model, [t.context for t in rows], rows, [t.edits for t in rows]) if rows else []
    edited = dict(zip(differ, found, strict=True))
    [x], n_prompt = seen, _longest([t.prompt for t in texts])
    token_filter = resolve_token_filter(model, sae)
    for i, (text, logits) in enumerate(zip(texts, clean, strict=True)):
        before = logits.float().log_softmax(-1)
        after = edited[i].float().log_softmax(-1) if i in edited else before
        target = torch.tensor(text.new, dtype=torch.long, device=before.device)
        here = x[i, n_prompt : n_prompt + len(text.new)]
        acts = torch.zeros(len(text.new), sae.config.d_sae)
        kept = token_filter.keep(target[None].cpu(), here[None].cpu())[0]
        if kept.any():
            acts[kept] = sae.encode(here[kept.to(here.device)].to(sae.W_dec)).float().cpu()
        yield Readout(token_nll(before, target), before, after, acts)


def _cost(reading: Readout) -> Cost:
    if len(reading.nll) == 0:
        return Cost(math.nan, math.nan, reading.feature_acts.sum(0))
    kl = (reading.after.exp() * (reading.after - reading.before)).sum(-1)
    return Cost(float(reading.nll.mean()), float(kl.mean()), reading.feature_acts.mean(0))


def drift(profile: Float[Tensor, " d_sae"], unsteered: Float[Tensor, " d_sae"], edited: Sequence[int]) -> float:
    """How far a text's features are from those of the unsteered text, the edited ones aside: 1 - cosine.

    0 for the same mix of features, 1 for no feature in common; nan where either text has none.

    >>> from saekit.steering.readout import drift
    >>> drift(torch.tensor([9.0, 1.0, 0.0]), torch.tensor([0.0, 2.0, 0.0]), edited=[0])
    0.0
    """
    rest = torch.ones(len(profile), dtype=torch.bool)
    rest[list(edited)] = False
    a, b = doubles(profile[rest]), doubles(unsteered[rest])
    size = float(a.norm() * b.norm())
    return max(0.0, 1 - float(a @ b) / size) if size > 0 else math.nan


def _longest(rows: Sequence[Sequence[int]]) -> int:
    return max(map(len, rows), default=0)


def _logits(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    texts: Sequence[TextSample],
    edits: Sequence[tuple[Edit, ...]],
    watched: tuple[str, list[Tensor]] | None = None,
) -> list[Float[Tensor, "n_new d_vocab"]]:
    """The logits that each text's new tokens were, or would have been, drawn from; `watched` gets the activation.

    Prompts are padded on the left, so that what is generated begins at one place, as when the texts were generated.
    """
    n_prompt, n_new = _longest(prompts), _longest([t.new for t in texts])
    device = model.device
    rows = torch.tensor([[model.pad_id] * (n_prompt - len(p)) + list(p) for p in prompts], device=device)
    attended = torch.arange(n_prompt, device=device) >= torch.tensor(
        [[n_prompt - len(p)] for p in prompts], device=device
    )
    span = Span(rows, attended)
    for at in range(n_new):
        span.append(torch.tensor([t.new[at] if at < len(t.new) else model.pad_id for t in texts], device=device))
    hooks = span.hooks(edits, model)
    if watched is not None:
        name, seen = watched
        layout = model.hook_layout(name)

        def watch(x: Tensor) -> Tensor:
            seen.append(layout.flatten(x).detach())
            return x

        hooks = [(name, watch), *hooks]
    padded = not bool(attended.all())
    logits, _ = model.forward(span.tokens, hooks=hooks, attention_mask=span.attended if padded else None)
    return [logits[i, n_prompt - 1 : n_prompt - 1 + len(t.new)] for i, t in enumerate(texts)]
