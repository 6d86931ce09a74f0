"""The units of a strength: raw activation, multiples of a feature's maximum, fractions of the residual norm.

The one place where a strength is converted and put into words. The front end has the same conversion in
widgets/src/steering/strengths.ts; widgets/tests/cases.json holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

StrengthUnit = Literal["raw", "max", "norm"]
"""raw: the SAE's own activations. max: multiples of the feature's largest activation in the index. norm: fractions of
the norm of the token's own activation."""
STRENGTH_UNITS: tuple[str, ...] = get_args(StrengthUnit)

_NAMES = {"raw": "raw activation", "max": "x the feature's maximum", "norm": "x the residual norm"}


def unit_name(unit: str, times: str = "x") -> str:
    """The unit as a label; `times` is the multiplication sign.

    >>> from saekit.steering.strength_units import unit_name
    >>> unit_name("norm"), unit_name("max", "×")
    ('x the residual norm', "× the feature's maximum")
    """
    return _NAMES[unit].replace("x ", f"{times} ", 1) if unit != "raw" else _NAMES[unit]


def strength_text(value: float, unit: str, maximum: float | None = None) -> str:
    """A strength in words; in unit "max" with the feature's maximum, where it is given.

    >>> from saekit.steering.strength_units import strength_text
    >>> strength_text(2.0, "raw"), strength_text(0.5, "norm"), strength_text(2.0, "max", 7.25)
    ('2', '0.5 x the residual norm', '2 x its maximum of 7.25')
    """
    if unit == "norm":
        return f"{value:g} {_NAMES[unit]}"
    if unit == "max":
        return f"{value:g} x its maximum" + ("" if maximum is None else f" of {maximum:.3g}")
    return f"{value:g}"


def convert_strength(value: float, before: str, after: str, scales: Mapping[str, float]) -> float:
    """A strength in another unit; `scales` has the raw activation of one of each unit, 0 where it is not known.

    >>> from saekit.steering.strength_units import convert_strength
    >>> convert_strength(0.5, "norm", "max", {"raw": 1.0, "max": 20.0, "norm": 140.0})
    3.5
    """
    if scales[before] > 0 and scales[after] > 0:
        value *= scales[before] / scales[after]
    return float(f"{value:.4g}")


def raw_strengths(
    values: Sequence[float] | float,
    unit: StrengthUnit,
    like: Float[Tensor, "n d_in"],
    norm: Float[Tensor, " n"],
    maxima: Sequence[float] | None = None,
    lengths: Float[Tensor, "n strength"] | None = None,
) -> Float[Tensor, "n strength"]:
    """Strengths, or one, as raw activations for each token; `norm` is each token's own, `maxima` each feature's.

    `lengths`: how long what one raw unit of each feature writes is, where it is not 1.

    >>> from saekit.steering.strength_units import raw_strengths
    >>> raw_strengths([0.5], "norm", torch.zeros(2, 3), torch.tensor([100.0, 200.0])).tolist()
    [[50.0], [100.0]]
    """
    if isinstance(values, float):
        return norm.to(like).unsqueeze(1) * values if unit == "norm" else like.new_full((len(like), 1), values)
    raw = like.new_tensor(values).expand(len(like), -1)
    if unit == "max" and maxima is not None:
        return raw * like.new_tensor(maxima)
    if unit != "norm":
        return raw
    raw = raw * norm.to(like).unsqueeze(1)
    return raw if lengths is None else raw / torch.where(lengths > 0, lengths, torch.ones_like(lengths))
