"""Targeted probe perturbation: does taking out a concept's features hurt the probe of that concept and no other?

A linear probe is trained for each class on the documents' mean activations. The features of class i are those with the
largest max(0, mean on the class - mean on the rest) * (probe_i . W_dec): what the feature adds to the probe's answer.
The n strongest are set to zero on held-out documents, x - sum_a a W_dec, which leaves the SAE's error untouched, and
all probes are evaluated again. The score at n is the mean over i of (drop of probe i) - (mean drop of the other
probes).

Source: Karvonen et al. 2025 (SAEBench, arXiv:2503.09532). As there: effects, ablation, score, n = 2 to 500.
Differences: SAEBench tests each probe on as many negatives as positives, here balanced accuracy weighs them so; its
probes are trained by Adam with an L1 penalty, ours are L2 logistic regressions; features with a negative effect are
never taken. A probe that has lost its concept answers "no" and has a balanced accuracy of 1/2, so the score of an SAE
with a feature for each class is about 1/2 at best; `relative` divides by (clean accuracy - 1/2) and is 1 there. A
random SAE of the same sizes stands beside it. An audit (2026, arXiv:2605.18229) advises against TPP at its usual
settings: a warning says so, and every score stands beside its reseed noise and what it can resolve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ...arguments import checks_arguments
from ...corpus import as_corpus
from ...errors import unknown_name
from ...sae import SAE
from .audit import warn_of_audit
from .displays import probe_perturbation_html
from .pooled import decoder, hook_point, several, writes_where_it_reads
from .pooled_classes import choose_classes, pool_classes
from .probes import Matrix, Probe, check_counts, columns, fit_probe, mean_difference, split_rows
from .resolution import N_RESEEDS, headline, interval, leave_one_out, reseeds, resolution_text, smallest_difference

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ...corpus import AnyCorpus
    from ...models import LanguageModel

NS = (2, 5, 10, 20, 50, 100, 500)
"""Numbers of features ablated: SAEBench's."""


@dataclass(frozen=True, eq=False)
class Perturbed:
    """Balanced accuracies of all probes before and after ablation; the last axis is the draws."""

    clean: Float[np.ndarray, "classes draws"]
    ablated: Float[np.ndarray, "ns classes classes draws"]
    """By number of features, class whose features are ablated, and probe."""
    features: tuple[tuple[int, ...], ...]
    """Of each class, the most attributed first."""

    @property
    def drop(self) -> Float[np.ndarray, "ns classes classes draws"]:
        """Accuracy lost, by number of features, ablated class and probe."""
        return np.asarray(self.clean[None, None] - self.ablated)

    def scores(self) -> tuple[Any, Any, Any, Any]:
        """(score, own drop, others' drop, relative score), each [ns, draws]."""
        drop, n = self.drop, len(self.clean)
        own = np.einsum("niid->nid", drop)
        others = (drop.sum(2) - own) / (n - 1)
        score = (own - others).mean(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            relative = score / (self.clean - 0.5).mean(0)
        return score, own.mean(1), others.mean(1), relative


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbePerturbation:
    """Whether an SAE's features change one concept at a time (TPP). Prints as a table by number of features."""

    label: str
    classes: tuple[Any, ...]
    ns: tuple[int, ...]
    sae: str
    table: pd.DataFrame
    """A row for each n: score, own_drop, other_drop and relative, each with _low and _high (95 %, jackknife over
    n_units held-out documents), the score's reseed noise (score_sd), the smallest difference between two SAEs that it
    can tell (score_resolves), and random_score."""
    drop: Float[np.ndarray, "ns classes classes"]
    """Balanced accuracy lost, by n, class whose features are ablated, and probe."""
    clean: dict[Any, float]
    """Balanced accuracy of each class's probe on held-out documents before anything is ablated."""
    features: dict[Any, tuple[int, ...]]
    """The features of each class, the most attributed first, as many as the largest n."""
    n_train: int
    n_test: int
    notes: tuple[str, ...] = ()

    def headline(self, at: int | None = None) -> dict[str, Any]:
        """The score with `at` features ablated, the fewest by default, and what it resolves."""
        at = self.ns[0] if at is None else at
        return headline(f"TPP of {self.label!r}, {at} features ablated", row_at(self.table, at), "score")

    def to_frame(self) -> pd.DataFrame:
        """One row for each number of ablated features."""
        return self.table

    def plot(self) -> go.Figure:
        """The score by number of features, beside a random SAE, and what was lost by class, as a plotly figure."""
        from .plots import plot_probe_perturbation

        return plot_probe_perturbation(self)

    def __repr__(self) -> str:
        accuracy, known = np.mean(list(self.clean.values())), self.headline()
        resolves = f"{known['what']}: {resolution_text(known['reseed_sd'], known['smallest_difference'])}"
        return "\n".join(
            [
                f"Targeted probe perturbation of {self.label!r}: {len(self.classes)} classes, {self.n_train:,} "
                f"training and {self.n_test:,} held-out documents",
                f"  {self.sae}",
                f"  balanced accuracy of the probes, nothing ablated: {accuracy:.3f}",
                self.table.to_string(index=False, float_format=lambda v: f"{v:.3f}", na_rep="-"),
                f"  {resolves}",
                *self.notes,
            ]
        )

    __str__ = __repr__
    _repr_html_ = probe_perturbation_html


def attributed(
    acts: Matrix, y: Any, probe: Probe, W_dec: Float[np.ndarray, "d_sae d_in"], n: int, *, signed: bool = True
) -> Int[np.ndarray, " n"]:
    """The n features with the largest effect on a probe, strongest first; fewer when fewer have any.

    The effect is the difference of class means times the probe's dot product with the decoder row. `signed` takes
    features that fire more on the class and push the probe towards it (TPP); else the size alone counts (SCR).
    """
    difference = mean_difference(acts, y)
    alignment = W_dec @ probe.weight
    effect = np.clip(difference, 0, None) * alignment if signed else np.abs(difference * alignment)
    order = np.argsort(-effect, kind="stable")[:n]
    return np.asarray(order[effect[order] > 0])


def without(
    x: Float[np.ndarray, "n d_in"], acts: Matrix, W_dec: Float[np.ndarray, "d_sae d_in"], features: Any
) -> Float[np.ndarray, "n d_in"]:
    """Mean activations with some features set to zero and the SAE's error left as it is."""
    if not len(features):
        return x
    return np.asarray(x - columns(acts, features) @ W_dec[features])


def perturb(
    x: Float[np.ndarray, "n d_in"],
    acts: Matrix,
    W_dec: Float[np.ndarray, "d_sae d_in"],
    y: Int[np.ndarray, " n"],
    *,
    ns: Sequence[int],
    split: tuple[Any, Any],
    draws: bool = False,
) -> Perturbed:
    """All probes' accuracies on held-out rows, before and after the features of each class are ablated.

    With `draws` also without each of the held-out rows. `x` and `acts` are mean activations and mean feature
    activations of documents, `y` their classes from 0.
    """
    train, test = split
    n_classes = int(y.max()) + 1
    probes = [fit_probe(x[train], y[train] == c) for c in range(n_classes)]
    ranked = [attributed(acts[train], y[train] == c, p, W_dec, max(ns)) for c, p in enumerate(probes)]
    weights = leave_one_out(len(test)) if draws else np.ones((1, len(test)))

    def accuracies(rows: Any) -> Float[np.ndarray, "classes draws"]:
        out = []
        for c, probe in enumerate(probes):
            truth = y[test] == c
            right = (probe.scores(rows) > 0) == truth
            with np.errstate(invalid="ignore"):  # the only row of a class is left out
                sides = [weights @ (side & right) / (weights @ side) for side in (truth, ~truth)]
            out.append((sides[0] + sides[1]) / 2)
        return np.stack(out)

    held_out = acts[test]
    ablated = [[accuracies(without(x[test], held_out, W_dec, chosen[:n])) for chosen in ranked] for n in ns]
    return Perturbed(
        accuracies(x[test]), np.stack([np.stack(a) for a in ablated]), tuple(tuple(map(int, r)) for r in ranked)
    )


@overload
def targeted_probe_perturbation(
    model: LanguageModel,
    sae: SAE,
    corpus: AnyCorpus,
    *,
    label: str,
    classes: Sequence[Any] | None = ...,
    ns: Sequence[int] = ...,
    n_each: int | None = ...,
    min_each: int = ...,
    length: int = ...,
    fraction_held_out: float = ...,
    hook_name: str | None = ...,
    n_reseeds: int = ...,
    seed: int = ...,
    progress: bool = ...,
) -> ProbePerturbation: ...
@overload
def targeted_probe_perturbation(
    model: LanguageModel,
    sae: Sequence[SAE],
    corpus: AnyCorpus,
    *,
    label: str,
    classes: Sequence[Any] | None = ...,
    ns: Sequence[int] = ...,
    n_each: int | None = ...,
    min_each: int = ...,
    length: int = ...,
    fraction_held_out: float = ...,
    hook_name: str | None = ...,
    n_reseeds: int = ...,
    seed: int = ...,
    progress: bool = ...,
) -> list[ProbePerturbation]: ...
@checks_arguments
def targeted_probe_perturbation(
    model: LanguageModel,
    sae: SAE | Sequence[SAE],
    corpus: AnyCorpus,
    *,
    label: str,
    classes: Sequence[Any] | None = None,
    ns: Sequence[int] = NS,
    n_each: int | None = 100,
    min_each: int = 10,
    length: int = 128,
    fraction_held_out: float = 0.4,
    hook_name: str | None = None,
    n_reseeds: int = N_RESEEDS,
    seed: int = 0,
    progress: bool = True,
) -> ProbePerturbation | list[ProbePerturbation]:
    """Whether ablating the features of one class hurts its probe and no other (TPP); a list for a list of SAEs.

    Warns that a 2026 audit advises against this evaluation at its usual settings. Documents, classes, reseeds and
    errors are those of `sparse_probing`. An n beyond the number of features that have an effect ablates those.
    ConfigError for a transcoder, whose features are not in the activations it reads.

    >>> result = sk.targeted_probe_perturbation(
    ...     model, sae, corpus, label="topic", ns=(1, 4), length=16, progress=False)
    >>> result.drop.shape
    (2, 2, 2)
    """
    saes, ns = several(sae), check_counts("ns", ns)
    corpus = as_corpus(corpus)
    writes_where_it_reads(saes, "targeted probe perturbation")
    where = hook_point(model, saes, hook_name)
    seeds = reseeds(seed, n_reseeds)
    wanted, notes = choose_classes(corpus, label, classes, min_each)
    warn_of_audit("targeted probe perturbation (TPP)")
    pooled, y = pool_classes(
        model, saes, corpus, label, wanted, hook_name=where, length=length, n_each=n_each, seed=seed, progress=progress
    )
    split = split_rows(y, fraction_held_out, seed)
    others = [split_rows(y, fraction_held_out, other) for other in seeds[1:]]
    out = []
    for s, acts, random, W_random in zip(
        saes, pooled.feature_acts, pooled.random_acts, pooled.random_W_dec, strict=True
    ):
        W_dec = decoder(s)
        found = perturb(pooled.x, acts, W_dec, y, ns=ns, split=split, draws=True)
        again = [perturb(pooled.x, acts, W_dec, y, ns=ns, split=other).scores()[0][:, 0] for other in others]
        baseline = perturb(pooled.x, random, W_random, y, ns=ns, split=split)
        out.append(
            ProbePerturbation(
                label=label,
                classes=tuple(wanted),
                ns=ns,
                sae=repr(s).split("\n")[0],
                table=_table(ns, found, baseline, y[split[1]], again),
                drop=found.drop[..., 0],
                clean={v: float(a) for v, a in zip(wanted, found.clean[:, 0], strict=True)},
                features=dict(zip(wanted, found.features, strict=True)),
                n_train=len(split[0]),
                n_test=len(split[1]),
                notes=tuple(notes),
            )
        )
    return out[0] if isinstance(sae, SAE) else out


def row_at(table: pd.DataFrame, n: int) -> pd.DataFrame:
    """The row of one number of ablated features; UnknownNameError for another."""
    rows = table[table["n"] == n]
    if not len(rows):
        raise unknown_name("number of ablated features", n, table["n"].tolist())
    return rows


def _table(ns: Sequence[int], found: Perturbed, baseline: Perturbed, y_test: Any, again: list[Any]) -> pd.DataFrame:
    names = ("score", "own_drop", "other_drop", "relative")
    rows = []
    for i, n in enumerate(ns):
        row: dict[str, float] = {"n": n, "n_units": len(y_test)}
        for name, draws in zip(names, found.scores(), strict=True):
            row[name], row[f"{name}_low"], row[f"{name}_high"] = interval(draws[i], "identity", y_test)
        values = [row["score"], *(other[i] for other in again)]
        row["score_sd"], row["score_resolves"] = smallest_difference(values, row["score_low"], row["score_high"])
        rows.append({**row, "random_score": float(baseline.scores()[0][i, 0])})
    return pd.DataFrame(rows)
