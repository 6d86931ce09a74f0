"""SAEs side by side: what tells them apart, in words.

Knows SAEs and their configurations; nothing of how they were trained.
"""

from __future__ import annotations

from collections.abc import Sequence

from .sae import SAEConfig

NAMED = {
    "hook_name": "{}", "hook_out": "to {}", "d_sae": "{} features", "k": "k {}", "target_l0": "L0 {}", "matryoshka": "nested {}",
    "sparsity_coefficient": "coefficient {}", "seed": "seed {}",
}  # fmt: skip
"""Fields that names are made of, in this order, and how each reads."""


def labels(configs: Sequence[SAEConfig]) -> list[str]:
    """A short name for each configuration: its rule, and whatever else tells it from the others.

    >>> from saekit.comparison import labels
    >>> labels([sk.SAEConfig(d_in=8, d_sae=32, activation="topk", k=k) for k in (2, 4)])
    ['topk, k 2', 'topk, k 4']
    """
    dicts = [c.to_dict() for c in configs]
    rest = {name: name + " {}" for d in dicts for name in d if name not in NAMED and name != "activation"}
    differ = [
        (name, words) for name, words in {**NAMED, **rest}.items() if len({repr(d.get(name)) for d in dicts}) > 1
    ]  # fmt: skip
    names: list[str] = []
    for d in dicts:
        parts = [words.format(_short(d[name])) for name, words in differ if d.get(name) not in (None, (), [])]
        names.append(", ".join([d["activation"], *parts]))
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            names[i] = f"{name} ({seen[name]})"
    return names


def _short(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return " + ".join(_short(v) for v in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
