"""Activations of several hook points side by side: the columns of each, and the token filters that apply to them."""

from __future__ import annotations

from itertools import accumulate, pairwise

import torch
from jaxtyping import Int64
from torch import Tensor

from ..errors import MismatchError
from ..hook_points import HookPoint, hook_names, hook_text
from ..sae import TokenFilter


class Columns:
    """What batches and caches of activations know about their columns: one block for each hook point, in order."""

    hook_name: HookPoint
    """The hook point, or the tuple of those that stand side by side."""
    widths: tuple[int, ...]
    """The width of each hook point's block."""
    token_filter: TokenFilter
    """Which tokens are left out; belongs in the configuration of an SAE that is trained on these."""

    @property
    def d_in(self) -> int:
        """The width of all blocks together."""
        return sum(self.widths)

    @property
    def token_filters(self) -> dict[str, TokenFilter]:
        """The token filter of each hook point. A token is there only where every one of them keeps it."""
        return dict(zip(hook_names(self.hook_name), self.token_filter.split(self.widths), strict=True))

    def token_filter_at(self, hook_point: HookPoint) -> TokenFilter:
        """The token filter for an SAE that reads this hook point, one or several of those that are here.

        >>> batches = sk.activation_batches(model, corpus, (HOOK, "embed.hook_out"), batch_size=64, length=16)
        >>> batches.token_filter_at(HOOK) == sk.fit_token_filter(model, sk.tokenize(corpus, model, length=16), HOOK)
        True
        """
        names = self._here(hook_point)
        return TokenFilter.joined([self.token_filters[n] for n in names], [self.width(n) for n in names])

    def width(self, hook_point: HookPoint) -> int:
        """The width of the activations of a hook point that is here, of several the sum."""
        known = dict(zip(hook_names(self.hook_name), self.widths, strict=True))
        return sum(known[name] for name in self._here(hook_point))

    def columns(self, hook_point: HookPoint) -> slice | Int64[Tensor, " d"]:
        """Where the activations of a hook point stand: a slice where they stand together, else column numbers.

        MismatchError for a hook point that is not here.

        >>> batches = sk.activation_batches(model, corpus, (HOOK, "embed.hook_out"), batch_size=64, length=16)
        >>> batches.columns("embed.hook_out")
        slice(32, 64, None)
        """
        ends = list(accumulate(self.widths))
        names = hook_names(self.hook_name)
        blocks = [range(ends[i] - self.widths[i], ends[i]) for i in map(names.index, self._here(hook_point))]
        if all(before.stop == after.start for before, after in pairwise(blocks)):
            return slice(blocks[0].start, blocks[-1].stop)
        return torch.cat([torch.arange(block.start, block.stop) for block in blocks])

    def _here(self, hook_point: HookPoint) -> tuple[str, ...]:
        """The names in a hook point; MismatchError when one of them is not here."""
        names = hook_names(hook_point)
        if not set(names) <= set(hook_names(self.hook_name)):
            raise MismatchError(
                "the activations are of another hook point",
                got=hook_text(hook_point),
                accepted=hook_text(self.hook_name),
                fix="pass one or several of these, or read the model there",
            )
        return names
