"""The HTML displays of what an SAE's features can be used for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...display import (
    Block,
    Intervals,
    Words,
    details,
    document,
    facts,
    frame_table,
    note,
    number,
    sentence,
    shown,
    table,
    words,
)

if TYPE_CHECKING:
    from ...statistics import Estimate
    from .ablation_sparsity import AblationSparsity
    from .absorption import Absorption
    from .compute_fraction import ComputeFraction
    from .perturbation import ProbePerturbation
    from .resolution import ScoreComparison
    from .sparse_probing import SparseProbing
    from .spurious_correlation import SpuriousRemoval

TITLES = {"n": "features ablated", "k": "features", "random_score": "random SAE", "own_drop": "own probe loses"} | {
    "other_drop": "other probes lose",
    "n_words": "words",
    "probe_f1": "probe F1",
    "n_right": "words right",
    "n_absorbed": "absorbed",
    "reason": "",
    "auroc": "AUROC",
}


@shown
def sparse_probing_html(r: SparseProbing) -> str:
    """A row for each probe and k: balanced accuracy, AUROC and accuracy with their intervals."""
    frame = r.summary.drop(columns=[c for c in r.summary if str(c).endswith(("_sd", "_resolves"))])
    return document(
        f"Sparse probing of {r.label!r}",
        f"{len(r.classes)} classes, {r.n_train:,} training and {r.n_test:,} held-out documents; {r.sae}",
        frame_table(frame, titles=TITLES, hide=("n_units",), pictures=("balanced_accuracy",), index=False),
        _resolution(r.headline()),
        note(f"Brackets: 95 % over {r.n_test:,} held-out documents."),
        details(
            "By class",
            frame_table(
                r.by_class.drop(columns=[c for c in r.by_class if str(c).endswith(("_sd", "_resolves"))]),
                titles=TITLES,
                hide=("n_units",),
                index=False,
                all_at=".by_class has all",
            ),
        ),
        *map(note, r.notes),
    )


@shown
def probe_perturbation_html(r: ProbePerturbation) -> str:
    """A row for each number of ablated features: the score beside a random SAE's."""
    accuracy = float(np.mean(list(r.clean.values()))) if r.clean else math.nan
    return document(
        f"Targeted probe perturbation of {r.label!r}",
        f"{len(r.classes)} classes, {r.n_train:,} training and {r.n_test:,} held-out documents; {r.sae}",
        words(f"Balanced accuracy of the probes, nothing ablated: {number(accuracy)}"),
        _by_n(r.table),
        _resolution(r.headline()),
        details("Features of each class", facts({str(c): list(f[:10]) for c, f in r.features.items()})),
        *map(note, r.notes),
    )


@shown
def spurious_removal_html(r: SpuriousRemoval) -> str:
    """A row for each number of ablated features: accuracy, and the score beside a random SAE's."""
    return document(
        f"Spurious correlation removal: {r.wanted} without {r.spurious}",
        f"{r.n_biased:,} biased and {r.n_balanced:,} balanced training documents, {r.n_test:,} held out; {r.sae}",
        words(f"Accuracy of the biased probe {number(r.accuracy_biased)}, of the oracle {number(r.accuracy_oracle)}"),
        _by_n(r.table),
        _resolution(r.headline()),
        details("Features ablated, the strongest first", facts({"features": list(r.features)})),
        *map(note, r.notes),
    )


@shown
def absorption_html(r: Absorption) -> str:
    """The rate over all letters, and a row for each letter."""
    shown_table = r.table.drop(columns=["absorbing_features", "main_features"])
    shown_table.insert(2, "n_main", [len(f) for f in r.table["main_features"]])
    overall = _estimates({"words absorbed": r.rate, "fraction of the projection": r.fraction})
    return document(
        "Feature absorption by first letters",
        f"{len(r.scored)} of {len(r.table)} letters scored; {r.sae}",
        overall if r.able else note("The model is not able: no letter's probe reaches the bar.", warn=True),
        _resolution(r.headline()) if r.able else None,
        details(
            "By letter",
            frame_table(shown_table, names="letter", titles=TITLES | {"n_main": "main features"}, pictures=("rate",)),
            opened=r.able,
        ),
        details(f"{len(r.words):,} absorbed words", frame_table(r.words, index=False, all_at=".words has all")),
        *map(note, r.notes),
    )


@shown
def ablation_sparsity_html(r: AblationSparsity) -> str:
    """The mean over ablations beside that of random directions."""
    n = len(r.table[["document", "position"]].drop_duplicates())
    return document(
        "Ablation sparsity",
        f"{len(r.table):,} ablations at {n:,} tokens, {r.n_following} tokens following; {r.sae}",
        _estimates({"features": r.sparsity, "random directions": r.random}),
        _resolution(r.headline()),
        note(f"Of {r.d_vocab:,} logits a token, as a fraction: lower is sparser."),
        details("Single ablations", frame_table(r.table, index=False)),
    )


@shown
def compute_fraction_html(r: ComputeFraction) -> str:
    """The fraction of the compute with its interval, and the reference it was read from."""
    how = "interpolated between rows" if not r.parameters else "a power law fitted to them"
    value = Intervals(
        "", [r.fraction], low=[r.low], high=[r.high], percent=True, axis=(0.0, max(1.0, r.fraction)), reasons=[r.reason]
    )
    return document(
        "Compute fraction",
        "how good a model of less compute would be as good as this one with the SAE in place",
        table([Words("", ["of the compute"]), value]),
        facts(
            {
                f"loss {number(r.ce_sae, 4)}, with the SAE": f"reached at {number(r.compute_sae)} {r.unit}",
                f"loss {number(r.ce_clean, 4)}, without": f"reached at {number(r.compute_clean)} {r.unit}",
                "reference": f"{len(r.reference)} rows, {how}",
            }
        ),
        note("A loss lies outside the reference: extrapolated.", warn=True) if r.extrapolated else None,
        details("Reference", frame_table(r.reference, index=False, all_at=".reference has all")),
    )


@shown
def score_comparison_html(r: ScoreComparison) -> str:
    """A row for each SAE, with a rank only where the score can tell it from all others."""
    frame = r.frame.assign(
        rank=["not ranked" if pd.isna(v) else number(v) for v in r.frame["rank"]],
        over=[f"{n:,} {unit}" for n, unit in zip(r.frame["n_units"], r.frame["unit"], strict=True)],
        cannot_tell_apart=[", ".join(names) for names in r.frame["cannot_tell_apart"]],
    )
    return document(
        sentence(r.what),
        f"{len(frame)} SAEs",
        frame_table(
            frame.rename(columns={"low": "value_low", "high": "value_high"}),
            names="SAE",
            titles={"cannot_tell_apart": "cannot be told from"},
            hide=("reseed_sd", "n_units", "unit"),
            pictures=("value",),
        ),
    )


def _by_n(frame: Any) -> Block | None:
    kept = frame.drop(columns=[c for c in frame if str(c).endswith(("_sd", "_resolves"))])
    return frame_table(kept, titles=TITLES, hide=("n_units",), pictures=("score",), index=False)


def _estimates(found: dict[str, Estimate]) -> Block | None:
    values = list(found.values())
    return table(
        [
            Words("", list(found)),
            Intervals(
                "",
                [e.value for e in values],
                low=[e.low for e in values],
                high=[e.high for e in values],
                reasons=[e.reason for e in values],
            ),
            Words("over", [f"{e.n_units:,} {e.unit}" if e.n_units is not None else None for e in values]),
        ]
    )


def _resolution(known: dict[str, Any]) -> Block:
    """What a score can tell, in words."""
    noise, resolves = known["reseed_sd"], known["smallest_difference"]
    if math.isnan(noise):
        return note(f"{sentence(known['what'])}: reseed noise not measured, pass n_reseeds=3 or more.")
    smallest = "is unknown without an interval" if math.isnan(resolves) else f"is {number(resolves)}"
    return note(
        f"{sentence(known['what'])}: the smallest difference between two SAEs that it can tell {smallest} "
        f"(reseed noise {number(noise)})."
    )
