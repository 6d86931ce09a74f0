"""Sums over tokens of what pairs of features do, and the metrics that follow from them.

Everything is float64 and per true feature; a block of tokens is a list of firings, never a table. Sums of x are taken
about the truth's own mean, so that the variance does not drown in it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from ..display import in_doubles
from ..sae import SparseActs
from ..statistics import Interval, clustered_mean
from .recovery_result import MEANS, Recovery, mean
from .truth import GroundTruth

SCATTER_POINTS = 1500


class RecoveryAccumulator:
    """Everything a Recovery is computed from, in float64: sums per true feature, over tokens."""

    def __init__(self, truth: GroundTruth, norms: Tensor, pair: Tensor) -> None:
        self.truth, self.norms, self.pair = truth, norms, pair
        self.true_of = torch.full((len(norms),), -1)
        self.true_of[pair[pair >= 0]] = (pair >= 0).nonzero().squeeze(1)
        n = truth.n_features
        names = (
            "true",
            "true_sum",
            "true_square",
            "found",
            "found_sum",
            "found_square",
            "both",
            "both_true",
            "both_found",
            "both_product",
            "with_child",
            "with_child_silent",
        )
        self.by = {name: torch.zeros(n, dtype=torch.float64) for name in names}
        self.fired = torch.zeros(len(norms), dtype=torch.long)
        self.n, self.n_true, self.n_found = 0, 0, 0
        self.error, self.square = 0.0, 0.0
        self.slope, self.bias, self.ratio = np.zeros((3, 2))  # numerator and denominator
        self.x = torch.zeros(truth.d_in, dtype=torch.float64)
        self.firings: list[pd.DataFrame] = []

    def add(self, x: Tensor, true: SparseActs, found: SparseActs, x_hat: Tensor) -> None:
        """Counts one block of tokens."""
        about = x - self.truth.mean
        self.n += len(x)
        self.n_true += true.value.numel()
        self.n_found += found.value.numel()
        self.error += float((x - x_hat).square().sum())
        self.square += float(about.square().sum())
        self.x += about.sum(0)
        self.bias += [float(x_hat.square().sum()), float((x * x_hat).sum())]
        norm, norm_hat = x.norm(dim=1), x_hat.norm(dim=1)
        self.ratio += [float((norm_hat / norm)[norm > 1e-6].sum()), float((norm > 1e-6).sum())]
        self.fired += torch.bincount(found.feature, minlength=len(self.fired))

        kept = self.true_of[found.feature] >= 0
        feature, n = self.true_of[found.feature[kept]], self.truth.n_features
        value = (found.value[kept] * self.norms[found.feature[kept]]).double()
        key, order = (found.token[kept] * n + feature).sort()
        true_key, magnitude = true.token * n + true.feature, true.value.double()
        at = torch.searchsorted(key, true_key).clamp(max=max(0, len(key) - 1))
        hit = key[at] == true_key if len(key) else torch.zeros_like(true_key, dtype=torch.bool)
        activation = torch.zeros_like(magnitude)
        activation[hit] = value[order][at[hit]]
        ones = torch.ones_like(magnitude)
        for name, where, values in (
            ("true", true.feature, ones),
            ("true_sum", true.feature, magnitude),
            ("true_square", true.feature, magnitude**2),
            ("found", feature, torch.ones_like(value)),
            ("found_sum", feature, value),
            ("found_square", feature, value**2),
            ("both", true.feature, hit.double()),
            ("both_true", true.feature, magnitude * hit),
            ("both_found", true.feature, activation),
            ("both_product", true.feature, magnitude * activation),
        ):
            self.by[name].index_add_(0, where, values)
        self.slope += [float((magnitude * activation).sum()), float((magnitude.square() * hit).sum())]
        self._absorption(true, true_key, hit)
        if sum(map(len, self.firings)) < SCATTER_POINTS:
            self.firings.append(
                pd.DataFrame({"true_feature": true.feature, "magnitude": true.value, "activation": activation.float()})
            )

    def _absorption(self, true: SparseActs, true_key: Tensor, hit: Tensor) -> None:
        parent = self.truth.parent[true.feature]
        owned = parent >= 0
        if not bool(owned.any()):
            return
        above = torch.unique(true.token[owned] * self.truth.n_features + parent[owned])
        at = torch.searchsorted(true_key, above)  # a parent fires wherever its child does
        self.by["with_child"].index_add_(0, true.feature[at], torch.ones(len(at), dtype=torch.float64))
        self.by["with_child_silent"].index_add_(0, true.feature[at], (~hit[at]).double())

    def recovery(self, cosine: Tensor, *, match: str, seed: int) -> Recovery:
        """The metrics of recovery, from what was added up."""
        s, truth = {name: v.numpy() for name, v in self.by.items()}, self.truth
        paired = (self.pair >= 0).numpy()
        best = cosine.max(dim=1)
        fired = s["true"] > 0
        precision = np.where(fired, _ratio(s["both"], s["found"], 0.0), np.nan)
        recall = np.where(fired, _ratio(s["both"], s["true"], 0.0), np.nan)
        f1 = np.where(fired, _ratio(2 * s["both"], s["found"] + s["true"], 0.0), np.nan)
        moments = [(self.by[f"{of}_sum"], self.by[f"{of}_square"]) for of in ("true", "found")]
        correlation = pearson(self.by["both_product"], moments[0], moments[1], self.n).numpy()
        is_parent = np.isin(np.arange(truth.n_features), truth.parent.numpy())
        alone, alone_silent = s["true"] - s["with_child"], s["true"] - s["both"] - s["with_child_silent"]
        features = pd.DataFrame(
            {
                "firing_rate": truth.firing_rate.numpy(),
                "n_fired": s["true"].astype(np.int64),
                "best_cosine": best.values.numpy(),
                "best_feature": best.indices.numpy(),
                "sae_feature": self.pair.numpy(),
                "cosine": np.where(paired, cosine[torch.arange(len(cosine)), self.pair].numpy(), 0.0),
                "correlation": np.where(fired, correlation, np.nan),
                "precision": precision,
                "recall": recall,
                "f1": f1,
                "magnitude_ratio": _ratio(s["both_found"], s["both_true"]),
                "parent": truth.parent.numpy(),
                "depth": truth.depth.numpy(),
                "absorption": _ratio(s["with_child_silent"], s["with_child"]),
                "missed_alone": np.where(is_parent, _ratio(alone_silent, alone), np.nan),
            }
        ).rename_axis("feature")
        both, total = s["both"].sum(), np.array([s["found"].sum(), s["true"].sum()])
        micro = _ratio(both, total)
        variance = self.square - float(self.x.square().sum()) / self.n
        firings = pd.concat(self.firings, ignore_index=True)
        rng = np.random.default_rng(seed)
        drawn = np.sort(rng.choice(len(firings), min(SCATTER_POINTS, len(firings)), replace=False))

        def interval(name: str) -> Interval:
            of_each = features[MEANS[name]]
            found = clustered_mean(list(of_each.to_numpy(np.float64)[:, None]), unit="features")
            return Interval(found.low, found.high)

        return Recovery(
            **{name: mean(features[column]) for name, column in MEANS.items()},
            mean_max_cosine_weighted=float(np.average(features["best_cosine"], weights=features["firing_rate"])),
            micro_precision=float(micro[0]),
            micro_recall=float(micro[1]),
            micro_f1=float(_ratio(2 * both, total.sum())),
            uniqueness=len(torch.unique(cosine.argmax(dim=0))) / cosine.shape[1],
            distinct=len(torch.unique(best.indices)) / cosine.shape[0],
            magnitude_slope=float(_ratio(*self.slope)),
            shrinkage=float(_ratio(*self.bias)),
            norm_ratio=float(_ratio(*self.ratio)),
            silent=int((self.fired == 0).sum()),
            l0=self.n_found / self.n,
            true_l0=self.n_true / self.n,
            explained_variance=1 - self.error / variance,
            absorption=float(_ratio(s["with_child_silent"].sum(), s["with_child"].sum())),
            missed_alone=float(_ratio(alone_silent[is_parent].sum(), alone[is_parent].sum())),
            features=in_doubles(features),
            firings=in_doubles(firings).iloc[drawn].reset_index(drop=True),
            intervals={n: known for n in ("mean_max_cosine", "f1") if not np.isnan((known := interval(n)).low)},
            match=match,
            n_tokens=self.n,
            d_sae=cosine.shape[1],
        )


def pearson(
    product: Float[Tensor, "*shape"], true: tuple[Tensor, Tensor], found: tuple[Tensor, Tensor], n: int
) -> Float[Tensor, "*shape"]:
    """Correlations over n tokens from sums of products, and of values and squares; 0 where one does not vary."""
    variance = (true[1] - true[0] ** 2 / n).clamp(min=0) * (found[1] - found[0] ** 2 / n).clamp(min=0)
    return torch.where(variance > 0, (product - true[0] * found[0] / n) / variance.sqrt(), 0.0)


def _ratio(a: npt.ArrayLike, b: npt.ArrayLike, otherwise: float = float("nan")) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(b) > 0, np.divide(a, b), otherwise)
