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
from ...statistics import Estimate, clustered_mean
from .displays import ablation_sparsity_html
from .pooled import one_hook_point, several, writes_where_it_reads
from .resolution import headline, reseeds, resolution_text, smallest_difference

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, kw_only=True, eq=False)
class AblationSparsity:
    """How sparse the effects of single features on the following logits are. Prints with its random baseline."""

    sae: str
    sparsity: Estimate
    """Mean of (L1 / L2)^2 / (V T) over ablations, with a 95 % interval (jackknife over documents)."""
    random: Estimate
    """The same for random directions of the same length at the same tokens."""
    table: pd.DataFrame
    """A row for each ablation: document, token, position, feature, activation, sparsity, random, and the largest change
    of a logit (largest)."""
    reseed_sd: float
    """Standard deviation of the mean when other documents, tokens and features are drawn."""
    smallest_difference: float
    """Between the means of two SAEs that can be told."""
    n_following: int
    """T: tokens whose logits are compared, the ablated one first."""
    d_vocab: int

    def headline(self, at: int | None = None) -> dict[str, Any]:
        """The mean sparsity, and what it resolves."""
        e = self.sparsity
        row = {"mean": e.value, "mean_low": e.low, "mean_high": e.high, "n_units": e.n_units or 0}
        row |= {"mean_sd": self.reseed_sd, "mean_resolves": self.smallest_difference}
        return headline("sparsity of ablation effects", pd.DataFrame([row]), "mean", higher_is_better=False)

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
        lines = [f"  {name:<18} {found:.4f}" for name, found in rows]
        lines.append(f"  {resolution_text(self.reseed_sd, self.smallest_difference)}")
        return "\n".join([head, f"  {self.sae}", *lines, f"  of {self.d_vocab:,} logits a token: lower is sparser"])

    __str__ = __repr__
    _repr_html_ = ablation_sparsity_html


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
    n_reseeds: int = ...,
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
    n_reseeds: int = ...,
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
    n_reseeds: int = 2,
    seed: int = 0,
    progress: bool = True,
) -> AblationSparsity | list[AblationSparsity]:
    """How sparse the effect of ablating one feature is on the logits of `n_following` tokens; a list for a list.

    `n_tokens` tokens are drawn, one a document, and up to `n_features` of the features active on each. The cost is that
    of n_tokens * (1 + 2 * n_features) forward passes of up to `length` tokens, and as many again for each of the
    `n_reseeds` further draws of documents, tokens and features, which give the reseed noise. Raises DataError when no
    document is long enough, ConfigError for a transcoder.

    >>> result = sk.ablation_sparsity(model, sae, corpus, n_tokens=2, n_features=2, n_following=4, length=32,
    ...                               n_reseeds=0, progress=False)
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
    every = []
    for drawn in reseeds(seed, n_reseeds):
        places = _places(model, saes, corpus, hook_name, n_tokens, n_following, length, np.random.default_rng(drawn))
        frames, d_vocab = _measured(model, saes, hook_name, places, n_features, n_following, drawn, progress)
        every.append(frames)
    out = []
    for s, *mine in zip(saes, *every, strict=True):
        sparsity = _mean(mine[0], "sparsity")
        noise = smallest_difference([_mean(f, "sparsity").value for f in mine], sparsity.low, sparsity.high)
        out.append(
            AblationSparsity(
                sae=repr(s).split("\n")[0],
                sparsity=sparsity,
                random=_mean(mine[0], "random"),
                reseed_sd=noise[0],
                smallest_difference=noise[1],
                table=mine[0],
                n_following=n_following,
                d_vocab=d_vocab,
            )
        )
    return out[0] if isinstance(sae, SAE) else out


def _measured(
    model: LanguageModel,
    saes: Sequence[SAE],
    hook_name: str,
    places: Sequence[tuple[int, list[int], int]],
    n_features: int,
    n_following: int,
    seed: int,
    progress: bool,
) -> tuple[list[pd.DataFrame], int]:
    """The ablations at some places, a table for each SAE, and the size of the vocabulary.

    DataError for an SAE without an active feature there.
    """
    rng, generator = np.random.default_rng([seed, 1]), torch.Generator().manual_seed(seed)
    rows: list[list[dict[str, Any]]] = [[] for _ in saes]
    with tqdm(total=len(places) * len(saes), desc="ablating", unit=" tokens", disable=not progress) as bar:
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
    for s, mine in zip(saes, rows, strict=True):
        if not mine:
            raise DataError(
                "no feature of the SAE fires on the sampled tokens",
                got=repr(s).split("\n")[0],
                accepted="an SAE with active features",
                fix="sample more tokens",
            )
    return [pd.DataFrame(mine) for mine in rows], int(clean.shape[-1])


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


def _mean(frame: pd.DataFrame, column: str) -> Estimate:
    """Mean over ablations, with the interval over documents."""
    known = frame.dropna(subset=[column])
    groups = [group.to_numpy(float) for _, group in known.groupby("document", sort=False)[column]]
    return clustered_mean(groups, unit="documents")
