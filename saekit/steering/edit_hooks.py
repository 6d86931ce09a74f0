"""Edits applied as a forward pass runs: to one activation (apply_edits), and to all rows of a batch (Span)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..activations import default_token_filter
from ..models import LanguageModel
from ..models.hook_layout import HookLayout
from ..sae import TokenFilter
from .edits import Edit


def apply_edits(
    x: Float[Tensor, "batch pos ..."],
    edits: Sequence[Edit],
    tokens: Int[Tensor, "batch pos"],
    *,
    attended: Bool[Tensor, "batch pos"] | None = None,
    step: Int[Tensor, "batch pos"] | None = None,
    token_filter: TokenFilter | None = None,
) -> Float[Tensor, "batch pos ..."]:
    """The activation x at one hook point after `edits` in order; x itself is not changed.

    Each edit reads the features of the activation that the one before it left. Which tokens are sinks, which ones
    `where` holds for, and the norm that unit "norm" takes a fraction of, are properties of the token: they come from x
    as it arrived. `token_filter` defines which tokens are special or sinks where an edit has no filter of its own
    (`default_filter` finds it). `step` counts the new tokens before each token, negative for the prompt's.

    >>> from saekit.steering.edit_hooks import apply_edits
    >>> tokens = torch.tensor([[0, 5, 6]])
    >>> x = model.activations(tokens, HOOK)
    >>> (apply_edits(x, [sk.add(sae, {3: 2.0})], tokens) != x).any(-1)  # BOS is left alone
    tensor([[False,  True,  True]])
    """
    arrived = x.flatten(2)
    norm = arrived.float().norm(dim=-1)
    out = arrived
    for edit in edits:
        where = edit.covers(tokens, arrived, attended=attended, step=step, token_filter=token_filter)
        at = where.nonzero(as_tuple=True)
        if len(at[0]):
            selected = out[at]
            change = edit.delta(selected, norm[at])
            if edit.schedule is not None:
                before = torch.full_like(where, -1, dtype=torch.long) if step is None else step
                change = change * edit.schedule.factor(before.to(x.device)[at]).to(change).unsqueeze(1)
            out = out.index_put(at, selected + change)
    return out.view(x.shape)


def default_filter(model: LanguageModel, hook_name: str, edits: Sequence[Edit]) -> TokenFilter | None:
    """The token filter for those of the edits at a hook point that have none of their own; None when all have one."""
    if all(edit.token_filter is not None for edit in edits):
        return None
    return default_token_filter(model, hook_name)


class Span:
    """The tokens a forward pass runs over, kept up to date by whoever runs it and read by the hooks."""

    def __init__(self, tokens: Int[Tensor, "batch pos"], attended: Bool[Tensor, "batch pos"]) -> None:
        self.tokens, self.attended = tokens, attended
        self.n_prompt = tokens.shape[1]

    def append(self, new: Int[Tensor, " batch"]) -> None:
        self.tokens = torch.cat([self.tokens, new.unsqueeze(1)], 1)
        self.attended = torch.cat([self.attended, torch.ones_like(new, dtype=torch.bool).unsqueeze(1)], 1)

    def hooks(
        self, edits: Sequence[tuple[Edit, ...]], model: LanguageModel
    ) -> list[tuple[str, Callable[[Tensor], Tensor]]]:
        """One hook per hook point, for the edits of each row. A hook sees the span's last n tokens, all or one."""
        place = {edit.hook_name: model.first_name(edit.hook_name) for row in edits for edit in row}
        names = dict.fromkeys(place.values())
        hooks: list[tuple[str, Callable[[Tensor], Tensor]]] = []
        for name in names:
            groups: dict[tuple[Edit, ...], list[int]] = {}
            for i, row in enumerate(edits):
                if here := tuple(edit for edit in row if place[edit.hook_name] == name):
                    groups.setdefault(here, []).append(i)
            token_filter = default_filter(model, name, [edit for here in groups for edit in here])
            hooks.append((name, partial(self._edit, model.hook_layout(name), groups, token_filter)))
        return hooks

    def _edit(
        self,
        layout: HookLayout,
        groups: Mapping[tuple[Edit, ...], Sequence[int]],
        token_filter: TokenFilter | None,
        activation: Tensor,
    ) -> Tensor:
        x = layout.flatten(activation)
        n, total = x.shape[1], self.tokens.shape[1]
        tokens, attended = self.tokens[:, -n:].to(x.device), self.attended[:, -n:].to(x.device)
        step = (torch.arange(total - n, total, device=x.device) - self.n_prompt).expand(len(x), -1)
        out = x
        for edits, chosen in groups.items():
            rows = torch.tensor(chosen, device=x.device)
            edited = apply_edits(
                x[rows], edits, tokens[rows], attended=attended[rows], step=step[rows], token_filter=token_filter
            )
            out = out.index_copy(0, rows, edited)
        return layout.restore(out, activation)
