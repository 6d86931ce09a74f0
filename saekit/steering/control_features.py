"""Features that a steering study compares its own with: as often active and as strong, or picked at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ..errors import ConfigError, check_feature
from ..sae import SAE

if TYPE_CHECKING:
    from ..index import FeatureIndex


def control_features(
    sae: SAE, features: Sequence[int], controls: int | Sequence[int], index: FeatureIndex | None, *, seed: int
) -> list[tuple[int, ...]]:
    """Sets of control features, each as large as `features`."""
    if isinstance(controls, bool) or not isinstance(controls, (int, list, tuple)):
        raise ConfigError(
            "controls is neither a number nor a list", got=f"{controls!r:.80}", accepted="how many, or the features"
        )
    if not isinstance(controls, int):
        if len(features) > 1:
            raise ConfigError(
                "controls of several features are picked for each", got=list(controls), accepted="how many to pick"
            )
        if features[0] in controls:
            raise ConfigError(
                "the feature cannot be its own control", got=list(controls), fix=f"leave {features[0]} out"
            )
        return [(check_feature(i, sae.config.d_sae),) for i in controls]
    if not 0 <= controls * len(features) <= sae.config.d_sae - len(features):
        raise ConfigError("too many or too few controls", got=controls, accepted=f"0 to {sae.config.d_sae - 1}")
    if controls == 0:
        return []
    if index is not None:
        picked: list[list[int]] = []
        for feature in features:
            taken = {*features, *(i for column in picked for i in column)}
            likely = index.matched_features(feature, min(controls + len(taken) - 1, sae.config.d_sae - 1), seed)
            picked.append([int(i) for i in likely if int(i) not in taken][:controls])
        return list(zip(*picked, strict=True))
    order = torch.randperm(sae.config.d_sae, generator=torch.Generator().manual_seed(seed)).tolist()
    free = [i for i in order if i not in features]
    return [tuple(free[n * len(features) : (n + 1) * len(features)]) for n in range(controls)]
