"""Ablation sparsity: when one feature is taken away, how few logits of the following tokens change?

At a sampled token one active feature is set to zero, x - a W_dec, and the logits of that token and the T - 1 after it
are compared with the unablated ones. From the V differences of each token their median is subtracted, since a constant
leaves the probabilities alone, and the T vectors are joined. (L1 / L2)^2 of the result is the number of logits affected
if all were affected alike; divided by V T it is a fraction: 1 / (V T) for a single logit, 2 / pi for normal noise, 1
for equal sizes. The lower, the sparser the effect. Every ablation is repeated with a random direction of the same
length in the place of a W_dec.

Source: Gao et al. 2024 (arXiv:2406.04093), section 4.5, with T = 16, where latents of GPT-2's reach 0.10 to 0.14 and
residual channels about 0.6. There every latent of a token is ablated; here some of those active, and some tokens, are
drawn, and the random directions are added. Sums are of `(L1 / L2)^2` over the joined vector, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from ...activations import common_token_filter
from ...arguments import checks_arguments
from ...corpus import AnyCorpus, Corpus, as_corpus, tokenize
from ...errors import ConfigError, DataError
from ...models import LanguageModel
from ...models.hook_layout import HookLayout
from ...sae import SAE, common_prepend_bos
from ...sae.precision import doubles
from ...statistics import point_and_interval, resample_within
from .pooled import one_hook_point, several, writes_where_it_reads

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, kw_only=True, eq=False)
class AblationSparsity:
    """How sparse the effects of single features on the following logits are. Prints with its random baseline."""

    sae: str
    sparsity: tuple[float, float, float]
    """Mean of (L1 / L2)^2 / (V T) over ablations, with a 95 % interval (bootstrap over documents)."""
    random: tuple[float, float, float]
    """The same for random directions of the same length at the same tokens."""
    table: pd.DataFrame
    """A row for each ablation: document, token, position, feature, activation, sparsity, random, and the largest change
    of a logit (largest)."""
    n_following: int
    """T: tokens whose logits are compared, the ablated one first."""
    d_vocab: int

    def to_frame(self) -> pd.DataFrame:
        """One row for each ablation."""
        return self.table

    def plot(self) -> go.Figure:
        """The distribution over ablations of features and of random directions, as a plotly figure."""
        from .plots import plot_ablation_sparsity

        return plot_ablation_sparsity(self)

    def __repr__(self) -> str:
        n = len(self.table[["document", "position"]].drop_duplicates())
        head = f"Ablation sparsity: {len(self.table):,} ablations at {n:,} tokens, {self.n_following} tokens following"
        rows = [("features", self.sparsity), ("random directions", self.random)]
        lines = [f"  {name:<18} {v:.4f} [{low:.4f}, {high:.4f}]" for name, (v, low, high) in rows]
        return "\n".join([head, f"  {self.sae}", *lines, f"  of {self.d_vocab:,} logits a token: lower is sparser"])

    __str__ = __repr__


def effect_sparsity(change: Float[Tensor, "*batch following d_vocab"]) -> Float[Tensor, "*batch"]:
    """(L1 / L2)^2 / (V T) of changes of logits, each token's median subtracted; NaN where nothing changes.

    >>> from saekit.evaluation.saebench.ablation_sparsity import effect_sparsity
    >>> change = torch.zeros(2, 10)
    >>> change[0, 3] = 5.0
    >>> round(float(effect_sparsity(change)), 6)  # one of 20 logits
    0.05
    """
    flat = doubles(change - change.quantile(0.5, dim=-1, keepdim=True)).flatten(-2)
    return (flat.abs().sum(-1) ** 2 / flat.pow(2).sum(-1)) / flat.shape[-1]


@overload
def ablation_sparsity(
    model: LanguageModel,
    sae: SAE,
    corpus: AnyCorpus,
    *,
    n_tokens: int = ...,
    n_features: int = ...,
    n_following: int = ...,
    length: int = ...,
    hook_name: str | None = ...,
    n_bootstrap: int = ...,
    seed: int = ...,
    progress: bool = ...,
) -> AblationSparsity: ...
@overload
def ablation_sparsity(
    model: LanguageModel,
    sae: Sequence[SAE],
    corpus: AnyCorpus,
    *,
    n_tokens: int = ...,
    n_features: int = ...,
    n_following: int = ...,
    length: int = ...,
    hook_name: str | None = ...,
    n_bootstrap: int = ...,
    seed: int = ...,
    progress: bool = ...,
) -> list[AblationSparsity]: ...
@checks_arguments
def ablation_sparsity(
    model: LanguageModel,
    sae: SAE | Sequence[SAE],
    corpus: AnyCorpus,
    *,
    n_tokens: int = 16,
    n_features: int = 8,
    n_following: int = 16,
    length: int = 64,
    hook_name: str | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> AblationSparsity | list[AblationSparsity]:
    """How sparse the effect of ablating one feature is on the logits of `n_following` tokens; a list for a list.

    `n_tokens` tokens are drawn, one a document, and up to `n_features` of the features active on each. The cost is that
    of n_tokens * (1 + 2 * n_features) forward passes of up to `length` tokens. Raises DataError when no document is
    long enough, ConfigError for a transcoder.

    >>> result = sk.ablation_sparsity(model, sae, corpus, n_tokens=2, n_features=2, n_following=4, length=32,
    ...                               n_bootstrap=10, progress=False)
    >>> len(result.table)
    4
    """
    saes = several(sae)
    corpus = as_corpus(corpus)
    writes_where_it_reads(saes, "ablation sparsity", means=False)
    hook_name = one_hook_point(model, saes, hook_name)
    for name, value in (("n_tokens", n_tokens), ("n_features", n_features), ("n_following", n_following)):
        if value < 1:
            raise ConfigError(f"{name} is not positive", got=value, accepted="an integer of at least 1")
    rng = np.random.default_rng(seed)
    places = _places(model, saes, corpus, hook_name, n_tokens, n_following, length, rng)
    rows: list[list[dict[str, Any]]] = [[] for _ in saes]
    generator = torch.Generator().manual_seed(seed)
    n_passes = len(places) * len(saes)
    with tqdm(total=n_passes, desc="ablating", unit=" tokens", disable=not progress) as bar:
        for document, tokens, position in places:
            window = tokens[: position + n_following]
            seen: list[Tensor] = []
            clean, _ = model.forward(
                [window], hooks=[(hook_name, _reader(model.hook_layout(hook_name), seen, position))]
            )
            clean = clean[0, position:].float()
            for s, mine in zip(saes, rows, strict=True):
                x = seen[0].to(s.W_dec)
                acts = s.encode_sparse(x)
                chosen = rng.permutation(acts.value.numel())[:n_features]
                known = {
                    "document": document,
                    "token": model.vocabulary.shown[int(window[position])],
                    "position": position,
                }
                mine += _ablations(model, s, hook_name, window, position, clean, x, acts, chosen, generator, known)
                bar.update(1)
    out = []
    for s, mine in zip(saes, rows, strict=True):
        if not mine:
            raise DataError(
                "no feature of the SAE fires on the sampled tokens",
                got=repr(s).split("\n")[0],
                accepted="an SAE with active features",
                fix="sample more tokens",
            )
        frame = pd.DataFrame(mine)
        out.append(
            AblationSparsity(
                sae=repr(s).split("\n")[0],
                sparsity=_mean(frame, "sparsity", n_bootstrap, seed),
                random=_mean(frame, "random", n_bootstrap, seed),
                table=frame,
                n_following=n_following,
                d_vocab=int(clean.shape[-1]),
            )
        )
    return out[0] if isinstance(sae, SAE) else out


def _places(
    model: LanguageModel,
    saes: Sequence[SAE],
    corpus: Corpus,
    hook_name: str,
    n_tokens: int,
    n_following: int,
    length: int,
    rng: np.random.Generator,
) -> list[tuple[int, list[int], int]]:
    """(document, its tokens, a kept position with enough tokens after it) for each sampled token, one a document."""
    documents = corpus.shuffle(int(rng.integers(2**31))) if corpus.in_memory else corpus
    prepend_bos = common_prepend_bos(s.config for s in saes)
    windows = tokenize(documents.take(8 * n_tokens), model, length=length, prepend_bos=prepend_bos)
    token_filter = common_token_filter(model, saes, hook_name)
    first = np.unique(windows.documents.max(1).values.numpy(), return_index=True)[1]
    out: list[tuple[int, list[int], int]] = []
    for row in first.tolist():
        tokens = windows.tokens[row, : int(windows.lengths[row])].tolist()
        last = len(tokens) - n_following
        if last < 1 or len(out) == n_tokens:
            continue
        x = model.activations([tokens], hook_name)[0].float()
        kept = token_filter.keep(torch.tensor(tokens, device=x.device), x)[: last + 1].nonzero()[:, 0].tolist()
        if kept:
            out.append((int(windows.documents[row].max()), tokens, int(rng.choice(kept))))
    if not out:
        raise DataError(
            "no document is long enough",
            got=f"windows of up to {int(windows.lengths.max())} tokens",
            accepted=f"more than n_following={n_following} tokens",
            fix="pass a smaller n_following, or longer texts",
        )
    return out


def _reader(layout: HookLayout, seen: list[Tensor], position: int) -> Any:
    def read(x: Tensor) -> None:
        seen.append(layout.flatten(x)[0, position][None].float())

    return read


def _ablations(
    model: LanguageModel,
    sae: SAE,
    hook_name: str,
    window: list[int],
    position: int,
    clean: Tensor,
    x: Tensor,
    acts: Any,
    chosen: Any,
    generator: torch.Generator,
    known: dict[str, Any],
) -> list[dict[str, Any]]:
    """The ablations of the chosen features and of random directions as long as what each contributes."""
    if not len(chosen):
        return []
    feature, value = acts.feature[chosen], acts.value[chosen]
    taken = (value[:, None] * sae.W_dec[feature] * sae.unit_of(x)).detach().cpu()
    noise = torch.randn(taken.shape, generator=generator)
    noise *= taken.norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)
    changes, layout = torch.cat([taken, noise]), model.hook_layout(hook_name)

    def subtract(x: Tensor) -> Tensor:
        flat = layout.flatten(x).clone()
        flat[:, position] -= changes.to(flat)
        return layout.restore(flat, x)

    logits, _ = model.forward([window] * len(changes), hooks=[(hook_name, subtract)])
    change = logits[:, position:].float() - clean
    sparsity = effect_sparsity(change).cpu()
    largest = change.abs().amax((1, 2)).cpu()
    n = len(chosen)
    return [
        {
            **known,
            "feature": int(feature[i]),
            "activation": float(value[i]),
            "sparsity": float(sparsity[i]),
            "random": float(sparsity[n + i]),
            "largest": float(largest[i]),
        }
        for i in range(n)
    ]


def _mean(frame: pd.DataFrame, column: str, n_bootstrap: int, seed: int) -> tuple[float, float, float]:
    """Mean over ablations, and its interval with documents drawn again."""
    known = frame.dropna(subset=[column])
    groups = known.groupby("document", sort=False)[column]
    total, n = groups.sum().to_numpy(), groups.count().to_numpy()
    if not len(total):
        return np.nan, np.nan, np.nan
    rng = np.random.default_rng([seed, 4])
    weights = resample_within(np.zeros(len(total), dtype=np.int64), n_bootstrap, rng)
    return point_and_interval(weights @ total / (weights @ n))
