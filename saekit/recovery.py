"""How much of a known truth an SAE has found: its directions, when they fire, and how strongly.

Works on freshly drawn data, in one pass by blocks (two when pairs are chosen by correlation): nothing grows with the
number of tokens. Knows nothing of how the SAE was trained.

Pairs. Each true feature is paired with at most one SAE feature so that the sum of the pairs' cosines (or, on request,
correlations of activations) is greatest: the Hungarian method. The default is the cosine because it does not look at
the tokens that the pairs are then scored on. True features that no SAE feature is left for count as 0 in every mean.

Sources: Sharkey et al. 2022, "Taking features out of superposition with sparse autoencoders" (mean maximum cosine);
SynthSAEBench (Chanin et al. 2026) for firing metrics, uniqueness and the ratio of norms, which there are taken over
the SAE's features and here over the true ones, except uniqueness; Chanin et al. 2024, arXiv:2409.14507 (absorption);
Rajamanoharan et al. 2024, arXiv:2404.16014, section 4 (reconstruction bias).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .errors import ConfigError, MismatchError, unknown_name
from .sae import SAE, SparseActs
from .synthetic import GroundTruth
from .synthetic.truth import stream

if TYPE_CHECKING:
    import plotly.graph_objects as go

Interval = tuple[float, float]
MATCHES = ("cosine", "correlation")
BLOCK_TOKENS = 4096
SCATTER_POINTS = 1500
MEANS = {
    "mean_max_cosine": "best_cosine", "matched_cosine": "cosine", "matched_correlation": "correlation",
    "precision": "precision", "recall": "recall", "f1": "f1", "shrinkage": "shrinkage",
}  # fmt: skip
"""Figures that are means of a column of `features` over true features, where the column is defined."""


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How well an SAE has recovered known features. Prints as a table, by part of the structure where there is one."""

    mean_max_cosine: float
    """Mean over true features of the largest cosine, with its sign, of any decoder row to the feature's direction."""
    mean_max_cosine_weighted: float
    """The same with each true feature weighted by its firing rate."""
    matched_cosine: float
    """Mean cosine over pairs, with its sign."""
    matched_correlation: float
    """Mean over pairs of Pearson's correlation of the two activations over all tokens, zeros included."""
    precision: float
    """Mean over true features that fired: share of the paired feature's firings on which the true one fired; 0 for a
    paired feature that is silent."""
    recall: float
    """Mean over true features that fired: share of the true feature's firings on which the paired one fired."""
    f1: float
    """Mean over true features that fired of the harmonic mean of precision and recall."""
    micro_precision: float
    """Firings that both of a pair share, as a share of the firings of all paired SAE features."""
    micro_recall: float
    """The same as a share of all true firings."""
    micro_f1: float
    """Harmonic mean of the two."""
    uniqueness: float
    """Number of true features that are some SAE feature's nearest by cosine, divided by d_sae (SynthSAEBench): below 1
    where SAE features repeat each other, and always below 1 for more SAE features than true ones."""
    distinct: float
    """Number of SAE features that are some true feature's nearest by cosine, divided by the number of true features."""
    shrinkage: float
    """Mean over pairs of (sum of the SAE's activations times its decoder row's norm) / (sum of true magnitudes) over
    the tokens on which both fire. 1: none. Noise that lifts an activation over its threshold lifts this ratio too: in
    superposition the true dictionary itself is above 1. `reconstruction_bias` does not choose tokens."""
    shrinkage_slope: float
    """Slope through the origin of the least squares fit of activation times norm on true magnitude, all pairs
    together, over the tokens on which both fire."""
    reconstruction_bias: float
    """sum ||x_hat||^2 / sum x . x_hat: 1 / the factor by which x_hat would best be multiplied. Below 1: shrunken."""
    norm_ratio: float
    """Mean of ||x_hat|| / ||x|| over tokens with ||x|| > 1e-6: SynthSAEBench's shrinkage."""
    dead: int
    """SAE features that never fire on these tokens."""
    l0: float
    """Mean number of SAE features that fire on a token."""
    true_l0: float
    """Mean number of true features that fire on a token."""
    explained_variance: float
    """1 - sum ||x - x_hat||^2 / sum ||x - mean(x)||^2."""
    absorption: float
    """Of the (token, parent) pairs on which a true feature and one of its children fire: share on which the SAE
    feature paired with the parent is silent. NaN without children. Chanin et al. 2024 ask whether a feature for "begins
    with S" is silent on words that have a feature of their own; here both truths are known."""
    missed_alone: float
    """The same share where a feature that has children fires without them: what absorption is to be compared with."""
    features: pd.DataFrame
    """One row per true feature: firing_rate, n_fired, best_cosine, best_feature, sae_feature (the pair; -1: none),
    cosine, correlation, precision, recall, f1, shrinkage, parent, depth, absorption, missed_alone."""
    firings: pd.DataFrame
    """Some firings of true features drawn at random: true_feature, magnitude, activation (of the pair, times its
    decoder norm; 0 where it is silent)."""
    intervals: dict[str, Interval]
    """95 % bootstrap intervals of mean_max_cosine and f1, over true features."""
    match: str
    """What the pairs are chosen by."""
    n_tokens: int
    d_sae: int

    @property
    def parts(self) -> pd.DataFrame:
        """The means over all true features and, where there are trees, over parents and over children; a feature in
        the middle of a tree is both."""
        f = self.features
        child = f["parent"] >= 0
        rows = {"all": f}
        if child.any():
            rows |= {"parents": f[f.index.isin(f.loc[child, "parent"])], "children": f[child]}
        columns = {name: [_mean(part[column]) for part in rows.values()] for name, column in MEANS.items()}
        frame = pd.DataFrame({"n": [len(p) for p in rows.values()], **columns}, index=list(rows))
        if child.any():
            frame["absorption"] = [self.absorption, self.absorption, float("nan")]
        return frame

    def to_frame(self) -> pd.DataFrame:
        """One row with every figure; `features` has them by true feature and `parts` by part of the structure."""
        skip = {"features", "firings", "intervals", "match"}
        row = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in skip}
        return pd.DataFrame([row])

    def plot(self) -> go.Figure:
        """Best cosine by firing rate, and activation against true magnitude, as a plotly figure."""
        from . import plots

        return plots.recovery(self)

    def __repr__(self) -> str:
        bounds = {name: f"  [{low:.3f}, {high:.3f}]" for name, (low, high) in self.intervals.items()}
        lines = [
            f"Recovery of {len(self.features):,} true features by {self.d_sae:,} of an SAE, {self.n_tokens:,} tokens, "
            f"paired by {self.match}"
        ]
        for name in ("mean_max_cosine", "mean_max_cosine_weighted", "matched_cosine", "matched_correlation", "f1",
                     "precision", "recall", "uniqueness", "distinct", "shrinkage", "explained_variance"):  # fmt: skip
            lines.append(f"  {name:<25} {getattr(self, name):.3f}{bounds.get(name, '')}")
        lines.append(f"  {'l0':<25} {self.l0:.2f} of {self.true_l0:.2f} true")
        lines.append(f"  {'dead':<25} {self.dead:,} of {self.d_sae:,}")
        if not np.isnan(self.absorption):
            lines.append(f"  {'absorption':<25} {self.absorption:.3f}, missed alone {self.missed_alone:.3f}")
            lines += ["  " + line for line in self.parts.to_string(float_format=lambda v: f"{v:.3f}").split("\n")]
        lines.append("  brackets: 95 % bootstrap intervals over true features")
        return "\n".join(lines)

    __str__ = __repr__


def recovery(
    sae: SAE,
    truth: GroundTruth,
    *,
    n_tokens: int = 65_536,
    seed: int = 0,
    match: str = "cosine",
    n_bootstrap: int = 1000,
) -> Recovery:
    """What `sae` has recovered of `truth`, on `n_tokens` tokens that `truth.batches` never gives.

    `match` "cosine" pairs true and SAE features by direction, "correlation" by their activations on these tokens.
    MismatchError when the SAE reads or writes another width than the truth's.

    >>> truth = sk.synthetic.independent(d_model=16, n_features=64, n_active=3)
    >>> found = sk.recovery(sk.SAE(sk.SAEConfig(d_in=16, d_sae=64, k=3)), truth, n_tokens=2000)
    >>> 0.3 < found.mean_max_cosine < 0.7, found.true_l0
    (True, 2.909)
    """
    if n_tokens < 2:
        raise ConfigError("n_tokens is too small", got=n_tokens, accepted="at least 2")
    if match not in MATCHES:
        raise unknown_name("match", match, MATCHES)
    for what, width in (("reads", sae.config.d_in), ("writes", sae.W_dec.shape[1])):
        if width != truth.d_in:
            raise MismatchError(f"the SAE {what} another width than the truth has", got=width, accepted=truth.d_in,
                                fix="score the SAE on the truth it was trained on")  # fmt: skip
    with torch.no_grad():
        rows = sae.W_dec.detach().cpu().float()
        norms = rows.norm(dim=1)
        cosine = truth.directions @ (rows / norms.clamp(min=1e-12)[:, None]).T
        blocks = _Blocks(sae, truth, n_tokens, seed)
        by = cosine if match == "cosine" else _correlations(blocks)
        pair = _pairs(by)
        sums = _Sums(truth, norms, pair)
        for x, true, found, x_hat in blocks:
            sums.add(x, true, found, x_hat)
    return sums.recovery(cosine, match=match, n_bootstrap=n_bootstrap, seed=seed)


class _Blocks:
    """The held-out tokens, block by block; the same each time they are gone through."""

    def __init__(self, sae: SAE, truth: GroundTruth, n_tokens: int, seed: int) -> None:
        self.sae, self.truth, self.n_tokens, self.seed = sae, truth, n_tokens, seed

    def __iter__(self) -> Iterator[tuple[Tensor, SparseActs, SparseActs, Tensor]]:
        generator = stream("held out", self.seed)
        device = self.sae.W_dec.device
        for first in range(0, self.n_tokens, BLOCK_TOKENS):
            batch = self.truth.sample(min(BLOCK_TOKENS, self.n_tokens - first), generator)
            acts = self.sae.encode_sparse(batch.x.to(device))
            x_hat = self.sae.decode(acts).cpu().double()
            found = SparseActs(
                acts.token.cpu(), acts.feature.cpu(), acts.value.cpu().float(), acts.n_tokens, acts.d_sae
            )
            yield batch.x.double(), batch.acts, found, x_hat


def _correlations(blocks: _Blocks) -> Float[Tensor, "n_features d_sae"]:
    """Pearson's correlation of every true with every SAE feature; 0 where one of them never fires."""
    from scipy import sparse

    products, n = None, 0
    moments = [torch.zeros(2, d, dtype=torch.float64) for d in (blocks.truth.n_features, blocks.sae.config.d_sae)]
    for _, true, found, _ in blocks:
        tables = []
        for acts, moment in zip((true, found), moments, strict=True):
            value = acts.value.double()
            moment[0].index_add_(0, acts.feature, value)
            moment[1].index_add_(0, acts.feature, value**2)
            pairs = (acts.token.numpy(), acts.feature.numpy())
            tables.append(sparse.csr_array((acts.value.numpy(), pairs), shape=(acts.n_tokens, acts.d_sae)))
        block = torch.from_numpy((tables[0].T @ tables[1]).toarray())
        products = block if products is None else products.add_(block)
        n += true.n_tokens
    assert products is not None
    sums, squares = moments[0][:, :, None]
    return _pearson(products.double(), (sums, squares), (moments[1][0], moments[1][1]), n).float()


def _pairs(score: Float[Tensor, "n_features d_sae"]) -> Int[Tensor, " n_features"]:
    """The SAE feature of each true one, -1 for none, with the greatest sum of scores."""
    from scipy.optimize import linear_sum_assignment

    true, found = linear_sum_assignment(score.numpy(), maximize=True)
    pair = torch.full((len(score),), -1)
    pair[torch.from_numpy(true)] = torch.from_numpy(found)
    return pair


class _Sums:
    """Everything a Recovery is computed from, in float64: sums per true feature, over tokens."""

    def __init__(self, truth: GroundTruth, norms: Tensor, pair: Tensor) -> None:
        self.truth, self.norms, self.pair = truth, norms, pair
        self.true_of = torch.full((len(norms),), -1)
        self.true_of[pair[pair >= 0]] = (pair >= 0).nonzero().squeeze(1)
        n = truth.n_features
        names = ("true", "true_sum", "true_square", "found", "found_sum", "found_square", "both", "both_true",
                 "both_found", "both_product", "with_child", "with_child_silent")  # fmt: skip
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
            ("true", true.feature, ones), ("true_sum", true.feature, magnitude),
            ("true_square", true.feature, magnitude**2), ("found", feature, torch.ones_like(value)),
            ("found_sum", feature, value), ("found_square", feature, value**2), ("both", true.feature, hit.double()),
            ("both_true", true.feature, magnitude * hit), ("both_found", true.feature, activation),
            ("both_product", true.feature, magnitude * activation),
        ):  # fmt: skip
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

    def recovery(self, cosine: Tensor, *, match: str, n_bootstrap: int, seed: int) -> Recovery:
        """The figures."""
        s, truth = {name: v.numpy() for name, v in self.by.items()}, self.truth
        paired = (self.pair >= 0).numpy()
        best = cosine.max(dim=1)
        fired = s["true"] > 0
        precision = np.where(fired, _ratio(s["both"], s["found"], 0.0), np.nan)
        recall = np.where(fired, _ratio(s["both"], s["true"], 0.0), np.nan)
        f1 = np.where(fired, _ratio(2 * s["both"], s["found"] + s["true"], 0.0), np.nan)
        moments = [(self.by[f"{of}_sum"], self.by[f"{of}_square"]) for of in ("true", "found")]
        correlation = _pearson(self.by["both_product"], moments[0], moments[1], self.n).numpy()
        is_parent = np.isin(np.arange(truth.n_features), truth.parent.numpy())
        alone, alone_silent = s["true"] - s["with_child"], s["true"] - s["both"] - s["with_child_silent"]
        features = pd.DataFrame({
            "firing_rate": truth.firing_rate.numpy(), "n_fired": s["true"].astype(np.int64),
            "best_cosine": best.values.numpy(), "best_feature": best.indices.numpy(), "sae_feature": self.pair.numpy(),
            "cosine": np.where(paired, cosine[torch.arange(len(cosine)), self.pair].numpy(), 0.0),
            "correlation": np.where(fired, correlation, np.nan), "precision": precision, "recall": recall, "f1": f1,
            "shrinkage": _ratio(s["both_found"], s["both_true"]), "parent": truth.parent.numpy(),
            "depth": truth.depth.numpy(), "absorption": _ratio(s["with_child_silent"], s["with_child"]),
            "missed_alone": np.where(is_parent, _ratio(alone_silent, alone), np.nan),
        }).rename_axis("feature")  # fmt: skip
        both, total = s["both"].sum(), np.array([s["found"].sum(), s["true"].sum()])
        micro = _ratio(both, total)
        variance = self.square - float(self.x.square().sum()) / self.n
        firings = pd.concat(self.firings, ignore_index=True)
        rng = np.random.default_rng(seed)
        drawn = np.sort(rng.choice(len(firings), min(SCATTER_POINTS, len(firings)), replace=False))
        return Recovery(
            **{name: _mean(features[column]) for name, column in MEANS.items()},
            mean_max_cosine_weighted=float(np.average(features["best_cosine"], weights=features["firing_rate"])),
            micro_precision=float(micro[0]), micro_recall=float(micro[1]),
            micro_f1=float(_ratio(2 * both, total.sum())),
            uniqueness=len(torch.unique(cosine.argmax(dim=0))) / cosine.shape[1],
            distinct=len(torch.unique(best.indices)) / cosine.shape[0],
            shrinkage_slope=float(_ratio(*self.slope)), reconstruction_bias=float(_ratio(*self.bias)), norm_ratio=float(_ratio(*self.ratio)),
            dead=int((self.fired == 0).sum()), l0=self.n_found / self.n, true_l0=self.n_true / self.n,
            explained_variance=1 - self.error / variance,
            absorption=float(_ratio(s["with_child_silent"].sum(), s["with_child"].sum())),
            missed_alone=float(_ratio(alone_silent[is_parent].sum(), alone[is_parent].sum())),
            features=features, firings=firings.iloc[drawn].reset_index(drop=True),
            intervals={n: _interval(features[MEANS[n]], n_bootstrap, rng) for n in ("mean_max_cosine", "f1")},
            match=match, n_tokens=self.n, d_sae=cosine.shape[1],
        )  # fmt: skip


def _pearson(
    product: Float[Tensor, "*shape"], true: tuple[Tensor, Tensor], found: tuple[Tensor, Tensor], n: int
) -> Float[Tensor, "*shape"]:
    """Correlations over n tokens from sums of products, and of values and squares; 0 where one does not vary."""
    variance = (true[1] - true[0] ** 2 / n).clamp(min=0) * (found[1] - found[0] ** 2 / n).clamp(min=0)
    return torch.where(variance > 0, (product - true[0] * found[0] / n) / variance.sqrt(), 0.0)


def _ratio(a: npt.ArrayLike, b: npt.ArrayLike, otherwise: float = float("nan")) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(b) > 0, np.divide(a, b), otherwise)


def _mean(values: pd.Series) -> float:
    return float(values.mean()) if values.notna().any() else float("nan")


def _interval(values: pd.Series, n_bootstrap: int, rng: np.random.Generator) -> Interval:
    known = values.dropna().to_numpy()
    if not n_bootstrap or not len(known):
        return float("nan"), float("nan")
    draws = [known[rng.integers(0, len(known), len(known))].mean() for _ in range(n_bootstrap)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
