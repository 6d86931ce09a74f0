"""How good an SAE is: what it keeps of the activations, and what the model loses when it must live on them.

The metrics are those of DESIGN: l0, explained variance, cross-entropy loss recovered, KL divergence, density. Text is
run three times: clean, with x_hat in the place of x, and with zeros in its place. Tokens that the SAE's rule leaves out
(special tokens, attention sinks) are left as they are in both, and count in none of the metrics of activations;
cross-entropy and KL are scored at every real next token, the same positions in all three runs. Sums are kept per
document, in float64, so that intervals are percentile bootstraps over documents (Efron and Tibshirani 1993, ch. 13).

Sources: Bricken et al. 2023 and Gao et al. 2024 for the metrics; loss recovered as in Rajamanoharan et al. 2024.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from .activations import find_token_rule
from .corpus import Corpus, Windows, tokenize
from .errors import ConfigError, DataError

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from .models import LanguageModel
    from .sae import SAE, TokenRule

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How good an SAE is on some text. Prints as a table with its intervals and two baselines."""

    l0: float
    """Mean number of non-zero features per token."""
    explained_variance: float
    """1 - sum ||x - x_hat||^2 / sum ||x - mean(x)||^2. Predicting the mean gives 0."""
    mse: float
    """Mean of (x - x_hat)^2 over tokens and dimensions, in the model's units squared."""
    ce_clean: float
    """Cross-entropy of the model as it is, in nats per token."""
    ce_sae: float
    """Cross-entropy with x_hat in the place of x."""
    ce_zero: float
    """Cross-entropy with zeros in the place of x, at the same tokens."""
    ce_loss_recovered: float
    """(ce_zero - ce_sae) / (ce_zero - ce_clean); NaN where zeros change nothing."""
    kl: float
    """Mean KL divergence of the clean next-token distribution from the spliced one, in nats."""
    kl_zero: float
    """The same for zeros: what kl is to be compared with."""
    mse_mean: float
    """mse of always predicting the mean: the variance per dimension."""
    explained_variance_zero: float
    """Explained variance of predicting zeros; below 0, since the mean of x is not zero."""
    density: Float[np.ndarray, " d_sae"]
    """Share of tokens on which each feature is non-zero."""
    intervals: dict[str, Interval]
    """95 % bootstrap intervals of l0, explained_variance, ce_loss_recovered and kl."""
    interval_unit: str
    """What the bootstrap draws: documents, or windows where documents share them."""
    n_tokens: int
    """Tokens that count in l0, explained_variance and density."""
    n_scored: int
    """Next tokens that count in the cross-entropies and kl."""
    n_sequences: int
    """Windows run."""
    seconds: float = field(compare=False)
    """Wall time."""

    @property
    def dead(self) -> np.ndarray:
        """The features that are never non-zero on these tokens."""
        return np.flatnonzero(self.density == 0)

    @property
    def n_dead(self) -> int:
        return len(self.dead)

    def to_frame(self) -> pd.DataFrame:
        """One row for the SAE and one for each baseline; NaN where a metric is not defined or not measured."""
        nan = float("nan")
        rows = {
            "sae": [self.l0, self.explained_variance, self.mse, self.ce_sae, self.ce_loss_recovered, self.kl],
            "predict the mean": [0.0, 0.0, self.mse_mean, nan, nan, nan],
            "zero ablation": [0.0, self.explained_variance_zero, nan, self.ce_zero, 0.0, self.kl_zero],
            "no change": [nan, 1.0, 0.0, self.ce_clean, 1.0, 0.0],
        }
        columns = ["l0", "explained_variance", "mse", "ce", "ce_loss_recovered", "kl"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns)

    def plot(self) -> go.Figure:
        """The cross-entropies and the densities of the features as a plotly figure."""
        from . import plots

        return plots.evaluation(self)

    def __repr__(self) -> str:
        table = self.to_frame().to_string(float_format=lambda v: f"{v:.3f}", na_rep="-")
        lines = [f"  {name:<20} {low:.3f} to {high:.3f}" for name, (low, high) in self.intervals.items()]
        d_sae = len(self.density)
        return "\n".join(
            [
                f"Evaluation on {self.n_tokens:,} tokens in {self.n_sequences:,} windows, {self.seconds:.0f} s",
                table,
                f"95 % intervals (bootstrap over {self.interval_unit})",
                *lines,
                f"dead features: {self.n_dead:,} of {d_sae:,} ({self.n_dead / d_sae:.1%}) on these tokens",
            ]
        )

    __str__ = __repr__


def evaluate(
    model: LanguageModel,
    sae: SAE,
    corpus: Corpus | Windows,
    *,
    hook_name: str | None = None,
    n_tokens: int | None = 20_000,
    batch_size: int = 8,
    length: int = 128,
    n_bootstrap: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """How good `sae` is on text it should not have been trained on.

    About `n_tokens` tokens are taken, in windows drawn with `seed`; None takes all. `batch_size` windows of `length`
    are run at a time, three times each: the cost is that of three forward passes. An SAE that does not know its hook
    point needs `hook_name`; one without a token rule gets the default rule.

    Raises MismatchError for an SAE of another model, hook or weight processing, DataError for an empty corpus or
    activations that are not finite.

    >>> evaluation = sk.evaluate(model, sae, corpus.take(4), length=32, progress=False)
    >>> round(evaluation.l0)
    4
    """
    if n_tokens is not None and n_tokens < 2:
        raise ConfigError("n_tokens is too small", got=n_tokens, accepted="at least 2, or None for all")
    hook_name = hook_name or sae.config.hook_name
    if hook_name is None:
        raise ConfigError("the SAE does not say at which hook point it reads", fix="pass hook_name=...")
    sae.check(model, hook_name)
    started = time.perf_counter()
    windows = _sample(corpus, model, length, n_tokens, seed)
    rule = sae.config.token_rule or find_token_rule(model, windows, hook_name)
    unit, unit_name = _units(windows)
    sums = _Sums(int(unit.max()) + 1, sae.config.d_in, sae.config.d_sae)
    was_training = sae.training
    sae.eval()
    try:
        with tqdm(
            total=windows.n_tokens, desc="evaluating", unit=" tokens", unit_scale=True, disable=not progress
        ) as bar:
            for tokens, mask, rows in windows.batches(batch_size):
                _add_batch(sums, model, sae, rule, hook_name, tokens, mask, unit[rows])
                bar.update(int(mask.sum()))
    finally:
        sae.train(was_training)
    return sums.evaluation(n_bootstrap, seed, unit_name, len(windows), started)


def _sample(corpus: Corpus | Windows, model: LanguageModel, length: int, n_tokens: int | None, seed: int) -> Windows:
    if isinstance(corpus, Corpus):
        windows = tokenize(
            corpus if n_tokens is None else corpus.shuffle(seed), model, length=length, max_tokens=n_tokens
        )
    elif isinstance(corpus, Windows):
        windows = corpus
        if n_tokens is not None and n_tokens < windows.n_tokens:
            order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(seed))
            n = int(torch.searchsorted(windows.lengths[order].cumsum(0), n_tokens)) + 1
            windows = windows.select(order[:n].sort().values)
    else:
        raise ConfigError(
            "not a corpus",
            got=type(corpus).__name__,
            accepted="a Corpus or Windows",
            fix="make one with sk.load_corpus",
        )
    if len(windows) == 0:
        raise DataError("there is nothing to evaluate on", got="no windows", accepted="at least one window of tokens")
    return windows


def _units(windows: Windows) -> tuple[Tensor, str]:
    """For each window what the bootstrap draws it with: its document, or itself when windows hold several documents."""
    high = windows.documents.max(1).values
    low = torch.where(windows.documents < 0, high[:, None], windows.documents).min(1).values
    if bool((low != high).any()):
        return torch.arange(len(windows)), "windows"
    return torch.unique(high, return_inverse=True)[1], "documents"


@torch.inference_mode()
def _add_batch(
    sums: _Sums,
    model: LanguageModel,
    sae: SAE,
    rule: TokenRule,
    hook_name: str,
    tokens: Tensor,
    mask: Tensor,
    unit: Tensor,
) -> None:
    seen: list[Tensor] = []

    def read(x: Tensor) -> None:
        seen.append(x.flatten(2) if x.ndim > 3 else x)

    clean, _ = model.forward(tokens, hooks=[(hook_name, read)], attention_mask=mask)
    x = seen[0]
    real = mask.bool().to(x.device)
    keep = rule.keep(tokens.to(x.device), x) & real
    if not bool(torch.isfinite(x[real]).all()):
        raise DataError(
            f"the model's activations at {hook_name} are not finite", accepted="finite numbers",
            fix="load the model in float32, and check its weights",
        )  # fmt: skip
    inside = x[keep].to(sae.W_dec.device, torch.float32)
    acts = sae.encode_sparse(inside)
    x_hat = sae.decode(acts)
    where = unit.to(keep.device)[:, None].expand_as(keep)[keep].cpu()
    sums.add_activations(where, inside, x_hat, acts.feature, acts.token)
    spliced, _ = model.forward(tokens, hooks=[(hook_name, _replace(keep, x_hat))], attention_mask=mask)
    zeroed, _ = model.forward(tokens, hooks=[(hook_name, _replace(keep, torch.zeros_like(x_hat)))], attention_mask=mask)
    for row, length in enumerate(mask.sum(1).tolist()):
        here = slice(0, length - 1)
        target = tokens[row, 1:length, None].to(clean.device)
        log_p = clean[row, here].float().log_softmax(-1)
        scores = [-log_p.gather(1, target).double().sum()]
        for logits in (spliced, zeroed):
            log_q = logits[row, here].float().log_softmax(-1)
            kl = (log_p.exp() * (log_p - log_q)).sum(-1)
            scores += [-log_q.gather(1, target).double().sum(), kl.double().sum()]
        sums.add_scores(int(unit[row]), length - 1, torch.stack(scores))


def _replace(keep: Tensor, values: Tensor) -> Callable[[Tensor], Tensor]:
    """A hook that puts `values` in the place of the activations at `keep` and leaves the others."""

    def hook(x: Tensor) -> Tensor:
        flat = (x.flatten(2) if x.ndim > 3 else x).clone()
        flat[keep] = values.to(flat.device, flat.dtype)
        return flat.reshape(x.shape)

    return hook


class _Sums:
    """Everything an Evaluation is computed from, as sums per unit of the bootstrap, in float64.

    Sums of x are taken about the first batch's mean, so that the variance does not drown in the mean.
    """

    def __init__(self, n_units: int, d_in: int, d_sae: int) -> None:
        self.n, self.firings, self.error, self.square, self.norm = (np.zeros(n_units) for _ in range(5))
        self.x = np.zeros((n_units, d_in))
        self.n_scored, self.scores = np.zeros(n_units), np.zeros((n_units, 5))
        self.centre: np.ndarray | None = None
        self.fired = np.zeros(d_sae, np.int64)

    def add_activations(self, unit: Tensor, x: Tensor, x_hat: Tensor, feature: Tensor, token: Tensor) -> None:
        if not len(x):
            return
        values = x.double().cpu().numpy()
        if self.centre is None:
            self.centre = values.mean(0)
        u, about = unit.numpy(), values - self.centre
        np.add.at(self.n, u, 1)
        np.add.at(self.error, u, (x.double() - x_hat.double()).pow(2).sum(-1).cpu().numpy())
        np.add.at(self.square, u, (about**2).sum(1))
        np.add.at(self.norm, u, (values**2).sum(1))
        np.add.at(self.x, u, about)
        np.add.at(self.firings, u[token.cpu().numpy()], 1)
        self.fired += np.bincount(feature.cpu().numpy(), minlength=len(self.fired))

    def add_scores(self, unit: int, n: int, scores: Tensor) -> None:
        self.n_scored[unit] += n
        self.scores[unit] += scores.cpu().numpy()

    def metrics(self, weight: np.ndarray) -> dict[str, np.ndarray]:
        """The metrics with each unit counted as often as `weight` [draws, units] says."""
        n, scored = weight @ self.n, weight @ self.n_scored
        variance = weight @ self.square - ((weight @ self.x) ** 2).sum(1) / n
        clean, sae, kl, zero, kl_zero = (weight @ self.scores).T / scored
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "l0": weight @ self.firings / n,
                "explained_variance": 1 - weight @ self.error / variance,
                "mse": weight @ self.error / n / self.x.shape[1],
                "ce_clean": clean,
                "ce_sae": sae,
                "ce_zero": zero,
                "ce_loss_recovered": (zero - sae) / (zero - clean),
                "kl": kl,
                "kl_zero": kl_zero,
                "mse_mean": variance / n / self.x.shape[1],
                "explained_variance_zero": 1 - weight @ self.norm / variance,
            }

    def evaluation(self, n_bootstrap: int, seed: int, unit_name: str, n_sequences: int, started: float) -> Evaluation:
        n_tokens = int(self.n.sum())
        if not n_tokens:
            raise DataError(
                "no token counts under the SAE's token rule",
                accepted="text with tokens that are neither special nor sinks",
                fix="check the corpus and sae.config.token_rule",
            )  # fmt: skip
        values = {name: float(v[0]) for name, v in self.metrics(np.ones((1, len(self.n)))).items()}
        return Evaluation(
            **values,
            density=self.fired / n_tokens,
            intervals=self._intervals(n_bootstrap, seed, ("l0", "explained_variance", "ce_loss_recovered", "kl")),
            interval_unit=unit_name,
            n_tokens=n_tokens,
            n_scored=int(self.n_scored.sum()),
            n_sequences=n_sequences,
            seconds=time.perf_counter() - started,
        )

    def _intervals(self, n_bootstrap: int, seed: int, names: Sequence[str]) -> dict[str, Interval]:
        n_units = len(self.n)
        rng = np.random.default_rng(seed)
        parts = [
            self.metrics(rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=size).astype(np.float64))
            for size in [100] * (n_bootstrap // 100) + [n_bootstrap % 100] * (n_bootstrap % 100 > 0)
        ]
        out = {}
        for name in names:
            draws = np.concatenate([p[name] for p in parts]) if parts else np.array([np.nan])
            draws = draws[np.isfinite(draws)]
            low, high = np.quantile(draws, [0.025, 0.975]) if len(draws) else (np.nan, np.nan)
            out[name] = (float(low), float(high))
        return out
