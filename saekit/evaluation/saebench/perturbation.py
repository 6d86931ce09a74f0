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
random SAE of the same sizes stands beside it. An audit (Chanin 2026, arXiv:2605.18229) found TPP noisy between training
seeds and only loosely tied to known features at its usual settings: compare SAEs by it with care, and with the
intervals.
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
from ...sae import SAE
from ...statistics import point_and_interval, resample_within
from .pooled import choose_documents, decoder, hook_point, pool, several, writes_where_it_reads
from .probes import Matrix, Probe, check_counts, columns, fit_probe, mean_difference, split_rows
from .sparse_probing import choose_classes

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ...corpus import AnyCorpus
    from ...models import LanguageModel

NS = (2, 5, 10, 20, 50, 100, 500)
"""Numbers of features ablated: SAEBench's."""


@dataclass(frozen=True, eq=False)
class Perturbed:
    """Balanced accuracies of all probes before and after ablation; the last axis is the draws of the bootstrap."""

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
    """A row for each n: score, own_drop, other_drop and relative, each with _low and _high (95 %), and random_score."""
    drop: Float[np.ndarray, "ns classes classes"]
    """Balanced accuracy lost, by n, class whose features are ablated, and probe."""
    clean: dict[Any, float]
    """Balanced accuracy of each class's probe on held-out documents before anything is ablated."""
    features: dict[Any, tuple[int, ...]]
    """The features of each class, the most attributed first, as many as the largest n."""
    n_train: int
    n_test: int
    notes: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """One row for each number of ablated features."""
        return self.table

    def plot(self) -> go.Figure:
        """The score by number of features, beside a random SAE, and what was lost by class, as a plotly figure."""
        from .plots import plot_probe_perturbation

        return plot_probe_perturbation(self)

    def __repr__(self) -> str:
        accuracy = np.mean(list(self.clean.values()))
        return "\n".join(
            [
                f"Targeted probe perturbation of {self.label!r}: {len(self.classes)} classes, {self.n_train:,} "
                f"training and {self.n_test:,} held-out documents",
                f"  {self.sae}",
                f"  balanced accuracy of the probes, nothing ablated: {accuracy:.3f}",
                self.table.to_string(index=False, float_format=lambda v: f"{v:.3f}", na_rep="-"),
                *self.notes,
            ]
        )

    __str__ = __repr__


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
    n_bootstrap: int = 0,
    seed: int = 0,
) -> Perturbed:
    """All probes' accuracies on held-out rows, before and after the features of each class are ablated.

    `x` and `acts` are mean activations and mean feature activations of documents, `y` their classes from 0.
    """
    train, test = split
    n_classes = int(y.max()) + 1
    probes = [fit_probe(x[train], y[train] == c) for c in range(n_classes)]
    ranked = [attributed(acts[train], y[train] == c, p, W_dec, max(ns)) for c, p in enumerate(probes)]
    weights = resample_within(y[test], n_bootstrap, np.random.default_rng([seed, 1]))

    def accuracies(rows: Any) -> Float[np.ndarray, "classes draws"]:
        out = []
        for c, probe in enumerate(probes):
            truth = y[test] == c
            weight = np.where(truth, 0.5 / truth.sum(), 0.5 / (~truth).sum())  # draws keep the size of every class
            out.append(weights @ (weight * ((probe.scores(rows) > 0) == truth)))
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
    n_bootstrap: int = ...,
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
    n_bootstrap: int = ...,
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
    n_bootstrap: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> ProbePerturbation | list[ProbePerturbation]:
    """Whether ablating the features of one class hurts its probe and no other (TPP); a list for a list of SAEs.

    Documents, classes and errors are those of `sparse_probing`. An n beyond the number of features that have an effect
    ablates those. ConfigError for a transcoder, whose features are not in the activations it reads.

    >>> result = sk.targeted_probe_perturbation(
    ...     model, sae, corpus, label="topic", ns=(1, 4), length=16, n_bootstrap=0, progress=False)
    >>> result.drop.shape
    (2, 2, 2)
    """
    saes, ns = several(sae), check_counts("ns", ns)
    corpus = as_corpus(corpus)
    writes_where_it_reads(saes, "targeted probe perturbation")
    where = hook_point(model, saes, hook_name)
    wanted, notes = choose_classes(corpus, label, classes, min_each)
    number = {value: n for n, value in enumerate(wanted)}
    documents, keys = choose_documents(corpus, lambda labels: number.get(labels.get(label)), n_each, seed)
    pooled = pool(model, saes, documents, hook_name=where, length=length, seed=seed, progress=progress)
    y = np.array(keys, dtype=np.int64)[pooled.document]
    split = split_rows(y, fraction_held_out, seed)
    out = []
    for s, acts, random, W_random in zip(
        saes, pooled.feature_acts, pooled.random_acts, pooled.random_W_dec, strict=True
    ):
        found = perturb(pooled.x, acts, decoder(s), y, ns=ns, split=split, n_bootstrap=n_bootstrap, seed=seed)
        baseline = perturb(pooled.x, random, W_random, y, ns=ns, split=split)
        out.append(
            ProbePerturbation(
                label=label,
                classes=tuple(wanted),
                ns=ns,
                sae=repr(s).split("\n")[0],
                table=_table(ns, found, baseline),
                drop=found.drop[..., 0],
                clean={v: float(a) for v, a in zip(wanted, found.clean[:, 0], strict=True)},
                features=dict(zip(wanted, found.features, strict=True)),
                n_train=len(split[0]),
                n_test=len(split[1]),
                notes=tuple(notes),
            )
        )
    return out[0] if isinstance(sae, SAE) else out


def _table(ns: Sequence[int], found: Perturbed, baseline: Perturbed) -> pd.DataFrame:
    names = ("score", "own_drop", "other_drop", "relative")
    rows = []
    for i, n in enumerate(ns):
        row: dict[str, float] = {"n": n}
        for name, samples in zip(names, found.scores(), strict=True):
            row[name], row[f"{name}_low"], row[f"{name}_high"] = point_and_interval(samples[i])
        rows.append({**row, "random_score": float(baseline.scores()[0][i, 0])})
    return pd.DataFrame(rows)
