"""Held-out data from a truth, pairs of true and SAE features, and the function that scores them.

One pass over the data by blocks (two when pairs are chosen by correlation): nothing grows with the number of tokens.

Pairs. Each true feature is paired with at most one SAE feature so that the sum of the pairs' cosines (or, on request,
correlations of activations) is greatest: the Hungarian method. The default is the cosine because it does not look at
the tokens that the pairs are then scored on. True features that no SAE feature is left for count as 0 in every mean.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..arguments import checks_arguments
from ..errors import ConfigError, MismatchError, unknown_name
from ..sae import SAE, SparseActs
from .accumulators import RecoveryAccumulator, pearson
from .recovery_result import Recovery
from .truth import GroundTruth, stream

MATCHES = ("cosine", "correlation")
BLOCK_TOKENS = 4096


@checks_arguments
def recovery(sae: SAE, truth: GroundTruth, *, n_tokens: int = 65_536, seed: int = 0, match: str = "cosine") -> Recovery:
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
    if not hasattr(truth, "directions"):
        raise ConfigError(
            "this is no ground truth",
            got=f"{truth!r:.80}",
            accepted="what sk.synthetic.independent, correlated or hierarchical made",
        )
    if match not in MATCHES:
        raise unknown_name("match", match, MATCHES)
    for what, width in (("reads", sae.config.d_in), ("writes", sae.W_dec.shape[1])):
        if width != truth.d_in:
            raise MismatchError(
                f"the SAE {what} another width than the truth has",
                got=width,
                accepted=truth.d_in,
                fix="score the SAE on the truth it was trained on",
            )
    with torch.no_grad():
        rows = sae.W_dec.detach().cpu().float()
        norms = rows.norm(dim=1)
        cosine = truth.directions @ (rows / norms.clamp(min=1e-12)[:, None]).T
        blocks = HeldOut(sae, truth, n_tokens, seed)
        by = cosine if match == "cosine" else _correlations(blocks)
        pair = _pairs(by)
        accumulator = RecoveryAccumulator(truth, norms, pair)
        for x, true, found, x_hat in blocks:
            accumulator.add(x, true, found, x_hat)
    return accumulator.recovery(cosine, match=match, seed=seed)


class HeldOut:
    """The held-out tokens, block by block; the same each time they are read."""

    def __init__(self, sae: SAE, truth: GroundTruth, n_tokens: int, seed: int) -> None:
        self.sae, self.truth, self.n_tokens, self.seed = sae, truth, n_tokens, seed

    def __iter__(self) -> Iterator[tuple[Tensor, SparseActs, SparseActs, Tensor]]:
        generator = stream("held out", self.seed)
        device = self.sae.W_dec.device
        for first in range(0, self.n_tokens, BLOCK_TOKENS):
            batch = self.truth.sample(min(BLOCK_TOKENS, self.n_tokens - first), generator)
            x = batch.x.to(device)
            acts = self.sae.encode_sparse(x)
            x_hat = self.sae.decode(acts, x).cpu().double()
            found = SparseActs(
                acts.token.cpu(), acts.feature.cpu(), acts.value.cpu().float(), acts.n_tokens, acts.d_sae
            )
            yield batch.x.double(), batch.acts, found, x_hat


def _correlations(blocks: HeldOut) -> Float[Tensor, "n_features d_sae"]:
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
    return pearson(products.double(), (sums, squares), (moments[1][0], moments[1][1]), n).float()


def _pairs(score: Float[Tensor, "n_features d_sae"]) -> Int[Tensor, " n_features"]:
    """The SAE feature of each true one, -1 for none, with the greatest sum of scores."""
    from scipy.optimize import linear_sum_assignment

    true, found = linear_sum_assignment(score.numpy(), maximize=True)
    pair = torch.full((len(score),), -1)
    pair[torch.from_numpy(true)] = torch.from_numpy(found)
    return pair
