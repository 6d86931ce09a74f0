"""One configuration of every architecture in each of its variants: what benchmarks and file checks go through."""

from __future__ import annotations

from typing import Any

from .architectures import ARCHITECTURES
from .config import SAEConfig


def every_kind(l0: float, **fields: Any) -> dict[str, SAEConfig]:
    """A configuration of each kind of SAE with `l0` active features per token, by its name; registered ones too.

    `fields` are the other fields of SAEConfig, d_in and d_sae at least.

    >>> from saekit.sae.kinds import every_kind
    >>> list(every_kind(4, d_in=8, d_sae=64))[:4]
    ['relu', 'kl', 'topk', 'topk multi-k']
    """
    return {
        f"{name} {variant}".strip(): SAEConfig(**{"activation": name, **architecture.with_l0(l0), **options, **fields})
        for name, architecture in ARCHITECTURES.items()
        for variant, options in architecture.variants(fields["d_sae"]).items()
    }
