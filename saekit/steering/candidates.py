"""The search for features to steer with: which fire for a concept, which write its words, and which cause it.

Firing for a concept is not causing it: features are found by what they fire on and by what they write, and ranked by
what the model writes while they are clamped, some beginnings of answers choosing and others reporting. That a feature
should be chosen by its effect is the finding of Arad, Mueller and Belinkov 2025 (their own scores: `output_scores`).
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from ..arguments import checks_arguments
from ..errors import ConfigError, MismatchError
from ..index import FeatureIndex
from ..index.directions import written_to_residual
from ..models import LanguageModel
from ..sae import SAE
from ..specificity import rank_features
from ..specificity.concepts import Concept
from .word_effects import STARTS, effects_table, word_changes

INPUT = ["n_firings", "n_positive_documents", "precision", "recall", "auroc"]
SHOWN = ["average_precision", "average_precision_low", "average_precision_high"]


@checks_arguments
def steering_features(
    model: LanguageModel,
    sae: SAE,
    index: FeatureIndex,
    concept: Concept,
    words: Sequence[str],
    *,
    n: int = 20,
    strength: float = 0.4,
    starts: Sequence[tuple[str, str]] = STARTS,
    progress: bool = True,
) -> pd.DataFrame:
    """A row per candidate, best to steer with first: what it fires for (input), and what it makes the model write.

    Candidates are the `n` features that separate the concept best (by average precision on the documents that choose,
    as `rank_features`), and the `n` whose decoder rows raise the words' logits most. input: average precision for the
    concept on the documents that report, with the ends of its interval (input_low, input_high), nan for a feature that
    fires on fewer than five tokens of the index. output: `word_effects`, the change in the words' log-probability
    in nats when the feature is clamped to `strength` of the residual norm, over every second of `starts`, with its 95 %
    interval over these (output_low, output_high, n_starts); chosen_by: the same over the other starts, which the rows
    are sorted by. A single start does both. writes: the mean logit effect on the words, one unit of the feature written
    straight to the unembedding, less the mean over the vocabulary. found_by: "fires", "writes" or "both". `table.attrs`
    says in words which documents and starts were used for what.

    Raises what `rank_features` and `word_effects` raise, and MismatchError when the index is of another SAE.

    >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    >>> found = sk.steering_features(
    ...     model, sae, index, sk.Concept.regex("gate"), [" gate"], n=3, starts=[("Who?", "I")], progress=False)
    >>> bool(found["chosen_by"].is_monotonic_decreasing), set(found["found_by"]) <= {"fires", "writes", "both"}
    (True, True)
    """
    if n < 1:
        raise ConfigError("n is not positive", got=n, accepted="1 or more")
    if index.sae_fingerprint != sae.fingerprint:
        raise MismatchError(
            "the index was built with another SAE",
            got=index.sae_fingerprint,
            accepted=sae.fingerprint,
            fix="pass the index of this SAE, or build one with sk.build_index",
        )
    found = rank_features(index, concept, n=index.d_sae, n_permutations=0)
    ranked = found.reindex(columns=[*INPUT, *SHOWN])  # a concept in a single text has no figures
    fires = [int(i) for i in ranked.index[:n]]
    effects = _effects(model, sae, index, words)
    writes = [] if effects is None else [int(i) for i in effects.topk(min(n, len(effects))).indices]
    chosen = list(dict.fromkeys([*fires, *writes]))
    changes = word_changes(
        model, sae, chosen, words, strength=strength, starts=starts, batch_size=32, progress=progress
    )
    choosing = changes[::2]
    output = effects_table(changes[1::2] if len(changes) > 1 else choosing, chosen, words)
    table = pd.DataFrame(index=pd.Index(chosen, name="feature"))
    for name in SHOWN:
        table[name.replace("average_precision", "input")] = ranked[name].reindex(chosen)
    for name in ("effect", "effect_low", "effect_high"):
        table[name.replace("effect", "output")] = output[name]
    table["n_starts"] = output["n_starts"]
    table["chosen_by"] = effects_table(choosing, chosen, words)["effect"]
    table["writes"] = float("nan") if effects is None else effects[chosen].numpy()
    table["found_by"] = ["both" if i in fires and i in writes else "fires" if i in fires else "writes" for i in chosen]
    table = table.join(ranked[INPUT].reindex(chosen)).sort_values("chosen_by", ascending=False, kind="stable")
    n_choosing, n_reporting = len(choosing), int(output["n_starts"].iloc[0])
    others = "others" if len(changes) > 1 else "the same, so that its figures are too good"
    table.attrs |= {
        "documents": found.attrs.get("documents", ""),
        "starts": f"ranked on {n_choosing} starts; output shown on {n_reporting} {others}",
    }
    return table


def _effects(model: LanguageModel, sae: SAE, index: FeatureIndex, words: Sequence[str]) -> torch.Tensor | None:
    """Each feature's mean logit effect on the words' first tokens; None where it does not write to the residual."""
    rows = written_to_residual(sae, model, index.hook_name)
    ids = [first for word in words for first in model.tokenize_next(word)[:1]]
    if rows is None or not ids:
        return None
    unembedding = model.unembedding()
    toward = unembedding[:, ids].mean(1) - unembedding.mean(1)
    return (rows.detach().float() @ toward.to(rows.device)).cpu()
