"""The mean-difference direction of a concept: the simplest way to steer, and the baseline for an SAE's features.

Built from the same tokens that features are scored on. Source: Turner et al. 2023, Activation addition; Marks & Tegmark
2023, The geometry of truth (difference of means).
"""

from __future__ import annotations

import torch
from tqdm.auto import tqdm

from ..activations import kept_activations, resolve_token_filter
from ..arguments import checks_arguments
from ..errors import DataError, MismatchError
from ..index import FeatureIndex
from ..models import LanguageModel
from ..sae import SAE
from ..specificity.concepts import Concept
from .directions import Direction


@checks_arguments
def mean_difference(
    model: LanguageModel,
    sae: SAE,
    index: FeatureIndex,
    concept: Concept,
    *,
    n_tokens: int = 20_000,
    seed: int = 0,
    batch_size: int = 8,
    progress: bool = True,
) -> Direction:
    """The mean activation at the concept's tokens minus the mean at all others, at the SAE's hook point.

    The model runs over windows of the index, about `n_tokens` of them: up to half are windows that hold the concept, as
    they come in a shuffle by `seed`, and the rest are any others. Special tokens and attention sinks are left out, and
    the Direction leaves them unedited. Which tokens count, and which of them are the concept's, is decided as in
    `specificity`, so that feature and direction use the same examples.

    Raises DataError when no token of the index is the concept's, or all are; MismatchError when the index is of another
    SAE or model.

    >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    >>> sk.mean_difference(model, sae, index, sk.Concept.regex("golden gate", name="gates"), progress=False)
    Direction 'gates, mean difference' at blocks.0.hook_resid_post
    """
    if index.sae_fingerprint != sae.fingerprint:
        raise MismatchError(
            "the index was built with another SAE",
            got=index.sae_fingerprint,
            accepted=sae.fingerprint,
            fix="pass the index of this SAE, or build one with sk.build_index",
        )
    hook_name = str(sae.config.hook_name)
    sae.check(model, hook_name)
    concept.token_mask(index)  # raises when no token is the concept's
    meant = torch.from_numpy(concept.flat_mask(index).copy())
    kept = torch.zeros_like(meant)
    kept[torch.as_tensor(index.kept)] = True
    if not (kept & ~meant).any():
        raise DataError(
            "every token of the index is the concept's, so there is nothing to subtract",
            got=repr(concept),
            fix="index text that the concept is not in as well",
        )
    holds = (meant & kept).reshape(index.n_windows, index.length).any(1)
    order = torch.randperm(index.n_windows, generator=torch.Generator().manual_seed(seed))
    wanted = max(2, n_tokens // index.length)
    some = order[holds[order]][: max(1, wanted // 2)]
    rows = torch.cat([some, order[~torch.isin(order, some)][: wanted - len(some)]])
    total = torch.zeros(2, sae.config.d_in, dtype=torch.float64)
    count = torch.zeros(2, 1, dtype=torch.float64)
    token_filter = resolve_token_filter(model, sae)
    with tqdm(total=len(rows), unit="window", desc="mean difference", disable=not progress) as bar:
        for at in range(0, len(rows), batch_size):
            chosen = rows[at : at + batch_size]
            position, x = kept_activations(model, index.windows, chosen, hook_name, token_filter)
            for side, mask in enumerate((meant[position] & kept[position], ~meant[position] & kept[position])):
                total[side] += x[mask].double().sum(0)
                count[side] += int(mask.sum())
            bar.update(len(chosen))
    difference = total[0] / count[0] - total[1] / count[1]
    return Direction(difference.float(), hook_name, f"{concept.name}, mean difference", token_filter=token_filter)
