"""Which tokens count: the token filter that leaves out special tokens and attention sinks, and travels with an SAE.

How the limits are found stands in activations/token_filter.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any, NotRequired

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from ..display import number
from ..errors import ConfigError, MismatchError, check_count
from ..json_files import Count, TokenId
from .displays import token_filter_html

MaxNorm = Annotated[float, Field(gt=0)]


class TokenFilterFields(TypedDict):
    """A TokenFilter as JSON."""

    special_ids: list[TokenId]
    max_norm: MaxNorm | None
    blocks: NotRequired[list[Annotated[list[Count | MaxNorm | None], Field(min_length=2, max_length=2)]]]


@dataclass(frozen=True, kw_only=True)
class TokenFilter:
    """Which tokens count: not special tokens, and not attention sinks, which have an outsize norm.

    >>> token_filter = sk.TokenFilter(special_ids=(0,), max_norm=10.0)
    >>> x = torch.tensor([[3.0, 0.0], [50.0, 0.0], [1.0, 1.0]])
    >>> token_filter.keep(torch.tensor([0, 5, 6]), x).tolist()
    [False, False, True]
    """

    special_ids: tuple[int, ...] = ()
    """Token ids that never count (BOS, EOS, padding)."""
    max_norm: float | None = None
    """A token whose activation is longer than this is a sink, in the model's units. Absolute, so that one token can
    be judged alone; usually four times the median norm."""
    blocks: tuple[tuple[int, float | None], ...] = ()
    """In place of max_norm for several hook points side by side: the width and the max_norm of each. A token counts
    where it counts at every one of them. A transcoder's token filter has its input's block and then its output's."""

    def __post_init__(self) -> None:
        _check_types(self)
        for limit in (self.max_norm, *(limit for _, limit in self.blocks)):
            if limit is not None and not limit > 0:
                raise ConfigError("max_norm is not positive", got=limit, accepted="a positive number or None")
        if self.blocks and self.max_norm is not None:
            raise ConfigError(
                "a token filter for several hook points has a max_norm for each",
                got=f"max_norm = {self.max_norm}",
                accepted="None beside blocks",
                fix="leave max_norm out",
            )

    @classmethod
    def joined(cls, token_filters: Sequence[TokenFilter], widths: Sequence[int]) -> TokenFilter:
        """The token filter for several hook points of these widths side by side; of one, its own.

        >>> sk.TokenFilter.joined([sk.TokenFilter(max_norm=9.0), sk.TokenFilter()], [2, 3]).blocks
        ((2, 9.0), (3, None))
        """
        if len(token_filters) == 1:
            return token_filters[0]
        special = sorted({i for token_filter in token_filters for i in token_filter.special_ids})
        return cls(
            special_ids=tuple(special),
            blocks=tuple((w, r.max_norm) for r, w in zip(token_filters, widths, strict=True)),
        )

    def split(self, widths: Sequence[int]) -> list[TokenFilter]:
        """The token filter of each of several hook points of these widths; MismatchError when it is for others.

        A token filter without blocks holds at every one of them.
        """
        if not self.blocks:
            return [self] * len(widths)
        if [w for w, _ in self.blocks] != list(widths):
            raise MismatchError(
                "the token filter is for other hook points",
                got=[w for w, _ in self.blocks],
                accepted=list(widths),
                fix="pass a token filter that sk.fit_token_filter found for these, or None",
            )
        return [TokenFilter(special_ids=self.special_ids, max_norm=limit) for _, limit in self.blocks]

    def of_input(self, d_in: int) -> TokenFilter:
        """The part for the first d_in columns: for what an SAE reads, where a transcoder's is for its output too.

        >>> sk.TokenFilter(special_ids=(0,), blocks=((2, 9.0), (3, 5.0))).of_input(2)
        TokenFilter(special_ids=(0,), max_norm=9.0, blocks=())
        """
        ends = list(accumulate(width for width, _ in self.blocks))
        if d_in not in ends[:-1]:
            return self
        blocks = self.blocks[: ends.index(d_in) + 1]
        parts = [TokenFilter(special_ids=self.special_ids, max_norm=limit) for _, limit in blocks]
        return TokenFilter.joined(parts, [width for width, _ in blocks])

    @classmethod
    def strictest(cls, token_filters: Sequence[TokenFilter]) -> TokenFilter:
        """The token filter that keeps a token when every one of these does; MismatchError for other hook points.

        >>> sk.TokenFilter.strictest([sk.TokenFilter(max_norm=9.0), sk.TokenFilter(special_ids=(0,), max_norm=5.0)])
        TokenFilter(special_ids=(0,), max_norm=5.0, blocks=())
        """
        different = list(dict.fromkeys(token_filters))
        if len(different) == 1:
            return different[0]
        special = tuple(sorted({i for one in different for i in one.special_ids}))
        widths = next(([width for width, _ in one.blocks] for one in different if one.blocks), [0])
        parts = [
            cls(special_ids=special, max_norm=min((p.max_norm for p in at if p.max_norm is not None), default=None))
            for at in zip(*(one.split(widths) for one in different), strict=True)
        ]
        return cls.joined(parts, widths)

    def keep(self, tokens: Int[Tensor, "*batch pos"], x: Float[Tensor, "*batch pos d"]) -> Bool[Tensor, "*batch pos"]:
        """True where a token counts. Of a token filter with blocks, x may be the first blocks alone."""
        keep = torch.ones(tokens.shape, dtype=torch.bool, device=x.device)
        if self.special_ids:
            special = torch.tensor(self.special_ids, device=tokens.device, dtype=tokens.dtype)
            keep &= ~torch.isin(tokens, special).to(x.device)
        if self.max_norm is not None:
            keep &= x.float().norm(dim=-1) <= self.max_norm
        start = 0
        for width, limit in self.blocks:
            if start == x.shape[-1]:
                break
            if limit is not None:
                keep &= x[..., start : start + width].float().norm(dim=-1) <= limit
            start += width
        if self.blocks and start != x.shape[-1]:
            raise MismatchError(
                "the token filter is for activations of another width",
                got=x.shape[-1],
                accepted=" + ".join(str(width) for width, _ in self.blocks),
                fix="pass the activations of its hook points side by side",
            )
        return keep

    def describe(self) -> str:
        """One sentence for cards and reprs.

        >>> sk.TokenFilter(special_ids=(0, 1), max_norm=560.0).describe()
        'tokens excluded: 2 special ids; norm above 560'
        """
        parts = []
        if self.special_ids:
            parts.append(f"{len(self.special_ids)} special ids")
        if self.max_norm is not None:
            parts.append(f"norm above {number(self.max_norm, 4)}")
        if limits := [number(limit, 4) for _, limit in self.blocks if limit is not None]:
            parts.append(f"norm above {', '.join(limits)} at any of {len(self.blocks)} hook points")
        return "tokens excluded: " + ("; ".join(parts) or "none")

    def to_dict(self) -> dict[str, Any]:
        """The token filter as JSON values."""
        out: dict[str, Any] = {"special_ids": list(self.special_ids), "max_norm": self.max_norm}
        return out | {"blocks": [list(block) for block in self.blocks]} if self.blocks else out

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> TokenFilter:
        """The token filter that `to_dict` wrote."""
        blocks = tuple((int(width), limit) for width, limit in value.get("blocks", ()))
        return cls(special_ids=tuple(int(i) for i in value["special_ids"]), max_norm=value["max_norm"], blocks=blocks)

    _repr_html_ = token_filter_html


def _check_types(token_filter: TokenFilter) -> None:
    for name in ("special_ids", "blocks"):
        value = getattr(token_filter, name)
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name} is no tuple", got=f"{value!r:.80}", accepted="a tuple", fix=f"leave {name} out")
    for i in token_filter.special_ids:
        check_count("a special id", i, least=0, most=2**31 - 1)
    for block in token_filter.blocks:
        if not isinstance(block, list | tuple) or len(block) != 2:
            raise ConfigError("a block is no pair", got=f"{block!r:.80}", accepted="(width, max_norm)")
    for limit in (token_filter.max_norm, *(limit for _, limit in token_filter.blocks)):
        if isinstance(limit, bool) or not isinstance(limit, int | float | None):
            raise ConfigError("max_norm is no number", got=f"{limit!r:.80}", accepted="a positive number or None")
