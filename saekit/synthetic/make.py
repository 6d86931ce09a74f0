"""Ground truths: features that fire on their own, in groups, or in trees where a child needs its parent.

Choices, the same for all three. Feature 0 fires most. Rates follow (rank + 1)^-zipf_exponent, scaled so that n_active
features fire per token; none is above MAX_RATE, and what is cut from the head of the law goes to its tail. Directions
are plain random unit vectors by default, so that nothing flatters the method under test; `spread` makes them interfere
less. truth.py draws the firings.

Sources: Sharkey et al. 2022, "Taking features out of superposition with sparse autoencoders" (random known features,
correlated in groups); Chanin et al. 2024, arXiv:2409.14507 (trees lead to absorption); SynthSAEBench (Chanin et al.
2026: Zipf rates, trees with exclusive children, spread directions).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arguments import checks_arguments
from ..errors import ConfigError, check_number, unknown_name
from .truth import GroundTruth, stream

Number = int | float
MAX_RATE = 0.5
"""No feature fires on more than this fraction of tokens."""
DIRECTIONS = ("random", "spread", "orthogonal")
SPREAD_STEPS = 100


@checks_arguments
def independent(
    d_model: int,
    n_features: int,
    n_active: Number,
    *,
    zipf_exponent: Number = 0.0,
    magnitude: str = "uniform",
    directions: str = "random",
    bias: Number = 0.0,
    noise: Number = 0.0,
    seed: int = 0,
) -> GroundTruth:
    """Features that fire independently, `n_active` of them on the average token.

    zipf_exponent 0 gives all the same rate, 1 the law of words. `magnitude` and `noise` are GroundTruth's, `directions`
    is "random", "spread" or "orthogonal" (see `unit_directions`), `bias` the norm of a constant vector in every x.
    ConfigError when so many features cannot be active at rates of at most 0.5.

    >>> sk.synthetic.independent(d_model=64, n_features=256, n_active=5)
    GroundTruth independent: 256 features in 64 dimensions, 5.0 fire per token
      firing rates 0.02 to 0.02; magnitude uniform; noise 0
    """
    _check(d_model=d_model, n_features=n_features)
    rate = _rates(_zipf(n_features, zipf_exponent), torch.ones(n_features, dtype=torch.float64), n_active)
    return GroundTruth(
        firing_rate=rate,
        parent=_none(n_features),
        group=_none(n_features),
        group_rate=rate.new_zeros(0),
        name="independent",
        **_space(d_model, n_features, magnitude, directions, bias, noise, seed),
    )


@checks_arguments
def correlated(
    d_model: int,
    n_features: int,
    n_active: Number,
    *,
    group_size: int = 8,
    correlation: Number = 0.5,
    zipf_exponent: Number = 0.0,
    magnitude: str = "uniform",
    directions: str = "random",
    bias: Number = 0.0,
    noise: Number = 0.0,
    seed: int = 0,
) -> GroundTruth:
    """Features in groups that fire together; `correlation` is Pearson's, of the firings of two features of a group.

    The members of a group have one rate p. Its switch is on with probability s = p / (p + correlation * (1 - p)), and
    behind it each member fires independently with probability p / s: both p and the correlation are then exact.
    Magnitudes are independent, and so are the groups. The other arguments are those of `independent`.

    >>> truth = sk.synthetic.correlated(d_model=16, n_features=64, n_active=4, group_size=4, correlation=0.7)
    >>> fires = truth.sample(20_000, torch.Generator().manual_seed(0)).acts.to_dense().bool().float()
    >>> round(float(torch.corrcoef(fires.T)[0, 1]), 1), round(abs(float(torch.corrcoef(fires.T)[0, 4])), 1)
    (0.7, 0.0)
    """
    _check(d_model=d_model, n_features=n_features, group_size=group_size)
    if not 0 < correlation <= 1:
        raise ConfigError(
            "correlation is out of range",
            got=correlation,
            accepted="above 0 and at most 1",
            fix="use synthetic.independent for none",
        )
    group = torch.arange(n_features) // group_size
    size = torch.bincount(group).double()
    p = _rates(_zipf(len(size), zipf_exponent), size, n_active)
    return GroundTruth(
        firing_rate=p[group],
        parent=_none(n_features),
        group=group,
        group_rate=p / (p + correlation * (1 - p)),
        name="correlated",
        **_space(d_model, n_features, magnitude, directions, bias, noise, seed),
    )


@checks_arguments
def hierarchical(
    d_model: int,
    n_features: int,
    n_active: Number,
    *,
    n_children: int = 7,
    depth: int = 2,
    child_fraction: Number = 0.5,
    exclusive: bool = True,
    zipf_exponent: Number = 0.0,
    magnitude: str = "uniform",
    directions: str = "random",
    bias: Number = 0.0,
    noise: Number = 0.0,
    seed: int = 0,
) -> GroundTruth:
    """Trees of features: a child fires only with its parent, which is what tempts an SAE into absorption.

    There are as many trees of `depth` levels and `n_children` per parent as n_features fill; roots come first, then
    their children. When a parent fires, `child_fraction` of its children do on average: with `exclusive` that is the
    chance that one of them does, each in its turn. The Zipf law orders the roots, and siblings among themselves. The
    other arguments are those of `independent`.

    >>> sk.synthetic.hierarchical(d_model=256, n_features=2048, n_active=20, zipf_exponent=1.0)
    GroundTruth hierarchical: 2,048 features in 256 dimensions, 20.0 fire per token
      firing rates 0.0003 to 0.5; magnitude uniform; noise 0
      256 trees of depth 2, 1,792 exclusive children
    """
    _check(d_model=d_model, n_features=n_features, n_children=n_children, depth=depth)
    if not 0 < child_fraction <= (1 if exclusive else 0.9 * n_children):
        raise ConfigError(
            "child_fraction is out of range",
            got=child_fraction,
            fix="pass child_fraction=0.5",
            accepted="above 0, at most 1 where children are exclusive, else 0.9 * n_children",
        )
    parent, sibling = _trees(n_features, n_children, depth)
    fraction = torch.ones(n_features, dtype=torch.float64)  # of the parent's firings
    family = torch.bincount(parent[parent >= 0], minlength=n_features)[parent.clamp(min=0)]
    for size in torch.unique(family[parent >= 0]).tolist():
        cap = 1.0 if exclusive else 0.95
        child = (family == size) & (parent >= 0)
        table = _rates(_zipf(size, zipf_exponent), torch.ones(size), min(child_fraction, cap * size), cap)
        fraction[child] = table[sibling[child]]
    below = torch.ones(n_features, dtype=torch.float64)  # expected firings in a subtree whose top fires
    for i in range(n_features - 1, -1, -1):
        if parent[i] >= 0:
            below[parent[i]] += fraction[i] * below[i]
    roots = int((parent < 0).sum())
    rate = fraction.clone()
    rate[:roots] = _rates(_zipf(roots, zipf_exponent), below[:roots], n_active)
    for i in range(roots, n_features):
        rate[i] *= rate[parent[i]]
    return GroundTruth(
        firing_rate=rate,
        parent=parent,
        group=_none(n_features),
        group_rate=rate.new_zeros(0),
        exclusive=exclusive,
        name="hierarchical",
        **_space(d_model, n_features, magnitude, directions, bias, noise, seed),
    )


@checks_arguments
def unit_directions(
    d_model: int, n_features: int, *, kind: str = "random", seed: int = 0
) -> Float[Tensor, "n_features d_model"]:
    """Unit vectors: independent and uniform ("random"), pushed apart ("spread"), or exactly "orthogonal".

    spread takes 100 steps of gradient descent on the sum of squared cosines from random ones; the least that sum can
    be is Welch's bound, a mean square of (n - d) / (d (n - 1)). orthogonal needs n_features <= d_model.

    >>> rows = sk.synthetic.unit_directions(8, 8, kind="orthogonal")
    >>> bool(torch.allclose(rows @ rows.T, torch.eye(8), atol=1e-6))
    True
    """
    if kind not in DIRECTIONS:
        raise unknown_name("kind of directions", kind, DIRECTIONS)
    rows = torch.randn(n_features, d_model, generator=stream("directions", seed), dtype=torch.float64)
    if kind == "orthogonal":
        if n_features > d_model:
            raise ConfigError(
                "there is no room for so many orthogonal directions",
                got=n_features,
                accepted=f"at most d_model = {d_model}",
                fix='pass directions="spread"',
            )
        rows = torch.linalg.qr(rows.T).Q.T.contiguous()
    rows /= rows.norm(dim=1, keepdim=True)
    if kind == "spread":
        step = 0.5 / torch.linalg.matrix_norm(rows, 2) ** 2
        for _ in range(SPREAD_STEPS):  # the gradient of sum_ij (r_i . r_j)^2 / 4 by R is R R^T R
            rows -= step * rows @ (rows.T @ rows)
            rows /= rows.norm(dim=1, keepdim=True)
    return rows.float()


def _space(
    d_model: int, n_features: int, magnitude: str, directions: str, bias: Number, noise: Number, seed: int
) -> dict[str, Any]:
    offset = torch.randn(d_model, generator=stream("bias", seed))
    return {
        "directions": unit_directions(d_model, n_features, kind=directions, seed=seed),
        "magnitude": magnitude,
        "bias": bias * offset / offset.norm(),
        "noise": noise,
    }


def _trees(n_features: int, n_children: int, depth: int) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Each feature's parent and its rank among its siblings; level by level, children dealt out in turn."""
    size = -(-n_features // sum(n_children**level for level in range(depth)))
    parents, ranks, first = [_none(size)], [torch.zeros(size, dtype=torch.long)], 0
    while (left := n_features - sum(map(len, parents))) > 0:
        above = len(parents[-1])
        child = torch.arange(min(left, above * n_children))
        parents.append(first + child % above)
        ranks.append(child // above)
        first += above
    return torch.cat(parents), torch.cat(ranks)


def _zipf(n: int, exponent: Number) -> Float[Tensor, " n"]:
    exponent = check_number("zipf_exponent", exponent, least=0, most=100)
    return torch.arange(1, n + 1, dtype=torch.float64).pow(-exponent)


def _rates(weight: Tensor, size: Tensor, total: Number, cap: float = MAX_RATE) -> Float[Tensor, " n"]:
    """Rates in proportion to the weights, none above `cap`, with sum of rate * size = total."""
    room = cap * float(size.sum())
    if not 0 < total <= room:
        raise ConfigError(
            "so many active features do not fit",
            got=f"n_active {total:g}",
            accepted=f"above 0, at most {room:g} at rates of {cap:g}",
            fix="lower n_active",
        )
    low, high = torch.zeros((), dtype=torch.float64), cap / weight.min()
    for _ in range(100):
        middle = (low + high) / 2
        enough = ((middle * weight).clamp(max=cap) * size).sum() >= total
        low, high = (low, middle) if enough else (middle, high)
    return (high * weight).clamp(max=cap)


def _none(n: int) -> Int[Tensor, " n"]:
    return torch.full((n,), -1)


def _check(**counts: int) -> None:
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{name} is not a positive integer", got=value, accepted="an integer of at least 1")
