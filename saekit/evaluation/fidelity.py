"""Running a model clean, with reconstructions in it and with zeros in it, and the fidelity of SAEs that follows.

Zeros stand at every position, attention sinks and special tokens too, as in published figures. The reconstruction
stands once where the SAE's token filter lets it, tokens that it leaves out being left as they are, and once at every
position. These tokens count in none of the metrics of activations; cross-entropy and KL are scored at every real next
token, the same positions in all runs. SAELens and SAEBench put zeros and, unless told otherwise, the SAE at every
position too, and leave the tokens after special ones out of the mean. What an SAE reconstructs is spliced in where it
belongs: a transcoder's at its hook_out, a crosscoder's at all its hook points in one run. SAEs that are evaluated
together share the clean run, and those that write at one hook point the one with zeros.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, overload

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..activations import resolve_token_filter
from ..activations.excluded import ExclusionCounter, warn_of_excluded
from ..arguments import checks_arguments
from ..corpus import AnyCorpus, Windows, as_corpus, tokenize
from ..errors import ConfigError, DataError
from ..hook_points import HookPoint, hook_names, hook_text
from ..models import Hook
from ..models.hook_layout import HookLayout
from ..models.likelihood import token_nll
from ..sae import SAE, TokenFilter, common_prepend_bos
from ..sae.precision import doubles
from .accumulators import FidelityAccumulator
from .result import Evaluation

if TYPE_CHECKING:
    from ..models import LanguageModel


@overload
def evaluate(
    model: LanguageModel,
    sae: SAE,
    corpus: AnyCorpus | Windows,
    *,
    hook_name: HookPoint | None = None,
    n_tokens: int | None = 20_000,
    batch_size: int = 8,
    length: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation: ...


@overload
def evaluate(
    model: LanguageModel,
    sae: Sequence[SAE],
    corpus: AnyCorpus | Windows,
    *,
    hook_name: HookPoint | None = None,
    n_tokens: int | None = 20_000,
    batch_size: int = 8,
    length: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> list[Evaluation]: ...


@checks_arguments
def evaluate(
    model: LanguageModel,
    sae: SAE | Sequence[SAE],
    corpus: AnyCorpus | Windows,
    *,
    hook_name: HookPoint | None = None,
    n_tokens: int | None = 20_000,
    batch_size: int = 8,
    length: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation | list[Evaluation]:
    """How good `sae` is on text it should not have been trained on; of a list of SAEs, a list.

    About `n_tokens` tokens are taken, in windows drawn with `seed`; None takes all. `batch_size` windows of `length`
    are run at a time, four times each: the cost is that of four forward passes, and for a list of two for each SAE, one
    for each hook point and one for all. An SAE that does not record its hook point needs `hook_name`; for one without a
    token filter, `resolve_token_filter` says which tokens are special or sinks. A warning says so where that filter
    leaves out much of the text.

    Raises MismatchError for an SAE of another model, hook or weight processing, DataError for an empty corpus or
    activations that are not finite.

    >>> evaluation = sk.evaluate(model, sae, corpus.take(4), length=32, progress=False)
    >>> round(evaluation.l0)
    4
    """
    if n_tokens is not None and n_tokens < 2:
        raise ConfigError("n_tokens is too small", got=n_tokens, accepted="at least 2, or None for all")
    saes = list(sae) if isinstance(sae, Iterable) else [sae]
    if not saes or not all(isinstance(one, SAE) for one in saes):
        raise ConfigError(
            "not an SAE" if saes else "no SAE to evaluate",
            got=", ".join(type(s).__name__ for s in saes) or "none",
            accepted="an SAE or a list of them",
            fix="pass sk.load_sae(folder)",
        )
    reads = [_checked(model, one, hook_name) for one in saes]
    started = time.perf_counter()
    windows = _sample(corpus, model, length, n_tokens, seed, common_prepend_bos(s.config for s in saes))
    places: dict[_Place, list[int]] = {}
    for i, (one, read) in enumerate(zip(saes, reads, strict=True)):
        place = _Place(read, one.config.hook_out or read, resolve_token_filter(model, one, read))
        places.setdefault(place, []).append(i)
    unit, unit_name = _units(windows)
    accumulators = [FidelityAccumulator(int(unit.max()) + 1, one.config.width_out, one.config.d_sae) for one in saes]
    counters = {place: place.counter(model) for place in places}
    was_training = [one.training for one in saes]
    for one in saes:
        one.eval()
    try:
        with tqdm(
            total=windows.n_tokens, desc="evaluating", unit=" tokens", unit_scale=True, disable=not progress
        ) as bar:
            for tokens, mask, rows in windows.batches(batch_size):
                _add_batch(accumulators, counters, model, saes, places, tokens, mask, unit[rows])
                bar.update(int(mask.sum()))
    finally:
        for one, before in zip(saes, was_training, strict=True):
            one.train(before)
    shown = model.vocabulary.shown if model.has_tokenizer else ()
    excluded = {i: counters[place].result(shown) for place, members in places.items() for i in members}
    for one in dict.fromkeys(excluded.values()):
        warn_of_excluded(one)
    out = [
        Evaluation(
            **found.metrics(unit_name),
            interval_unit=unit_name,
            excluded=excluded[i],
            n_dead_in_training=saes[i].training_summary.get("dead_features"),
            n_sequences=len(windows),
            seconds=time.perf_counter() - started,
        )
        for i, found in enumerate(accumulators)
    ]
    return out[0] if isinstance(sae, SAE) else out


class _Place(NamedTuple):
    """Where SAEs read and write, and on which tokens."""

    reads: HookPoint
    writes: HookPoint
    token_filter: TokenFilter

    @property
    def names(self) -> tuple[str, ...]:
        """Every hook point it has to do with."""
        return tuple(dict.fromkeys((*hook_names(self.reads), *hook_names(self.writes))))

    def counter(self, model: LanguageModel) -> ExclusionCounter:
        """Of what the token filter leaves out at every one of them."""
        widths = [model.hook_width(name) for name in self.names]
        return ExclusionCounter(self.token_filter, self.names, widths, len(hook_names(self.reads)))


def _checked(model: LanguageModel, sae: SAE, hook_name: HookPoint | None) -> HookPoint:
    """The hook point an SAE reads, once it is known to belong to the model."""
    reads = hook_name or sae.config.hook_name
    if reads is None:
        raise ConfigError("the SAE does not name the hook point it reads", fix="pass hook_name=...")
    if sae.config.is_transcoder and sae.config.hook_out is None:
        raise ConfigError(
            "the transcoder does not name the hook point it reconstructs",
            got="hook_out = None",
            accepted="a hook point's name",
            fix='sae.config = sae.config.replace(hook_out="blocks.15.mlp.hook_out")',
        )
    sae.check(model, reads)
    return reads


def _sample(
    corpus: AnyCorpus | Windows,
    model: LanguageModel,
    length: int,
    n_tokens: int | None,
    seed: int,
    prepend_bos: bool | None,
) -> Windows:
    if not isinstance(corpus, Windows):
        corpus = as_corpus(corpus, also="Windows")
        drawn = corpus if n_tokens is None else corpus.shuffle(seed)
        windows = tokenize(drawn, model, length=length, max_tokens=n_tokens, prepend_bos=prepend_bos)
    else:
        windows = corpus
        if n_tokens is not None and n_tokens < windows.n_tokens:
            order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(seed))
            n = int(torch.searchsorted(windows.lengths[order].cumsum(0), n_tokens)) + 1
            windows = windows.select(order[:n].sort().values)
    if len(windows) == 0:
        raise DataError("there is nothing to evaluate on", got="no windows", accepted="at least one window of tokens")
    return windows


def _units(windows: Windows) -> tuple[Tensor, str]:
    """For each window the unit of intervals it belongs to: its document, or itself when windows hold several."""
    high = windows.documents.max(1).values
    low = torch.where(windows.documents < 0, high[:, None], windows.documents).min(1).values
    if bool((low != high).any()):
        return torch.arange(len(windows)), "windows"
    return torch.unique(high, return_inverse=True)[1], "documents"


@torch.inference_mode()
def _add_batch(
    accumulators: list[FidelityAccumulator],
    counters: dict[_Place, ExclusionCounter],
    model: LanguageModel,
    saes: list[SAE],
    places: dict[_Place, list[int]],
    tokens: Tensor,
    mask: Tensor,
    unit: Tensor,
) -> None:
    seen: dict[str, Tensor] = {}

    def reader(name: str) -> Hook:
        layout = model.hook_layout(name)

        def read(x: Tensor) -> None:
            seen[name] = layout.flatten(x)

        return read

    names = dict.fromkeys(name for place in places for name in place.names)
    clean, _ = model.forward(tokens, hooks=[(name, reader(name)) for name in names], attention_mask=mask)
    log_p = clean.float().log_softmax(-1)
    del clean
    lengths = mask.sum(1).tolist()
    ce = torch.stack(
        [doubles(token_nll(p[: n - 1], ids[1:n])).sum() for p, ids, n in zip(log_p, tokens, lengths, strict=True)]
    )

    def spliced_scores(place: _Place, at: Tensor, values: Tensor) -> Tensor:
        return _scores(log_p, _spliced(model, tokens, mask, place.writes, at, values), tokens, mask)

    of_zeros: dict[HookPoint, Tensor] = {}
    for place, members in places.items():
        x, target = (torch.cat([seen[name] for name in hook_names(at)], dim=-1) for at in place[:2])
        real = mask.bool().to(x.device)
        _check_finite(place, torch.isfinite(x[real]).all() & torch.isfinite(target[real]).all())
        together = torch.cat([seen[name] for name in place.names], dim=-1)
        ids = tokens.to(x.device)
        keep = place.token_filter.keep(ids, together if place.token_filter.blocks else x) & real
        counters[place].add(ids[real], together[real], keep[real])
        where = unit.to(keep.device)[:, None].expand_as(keep)[keep].cpu()
        if place.writes not in of_zeros:
            of_zeros[place.writes] = spliced_scores(place, real, torch.zeros_like(target[real]))
        for i in members:
            device = saes[i].W_dec.device
            inside, goal = (values[keep].to(device, torch.float32) for values in (x, target))
            acts = saes[i].encode_sparse(inside)
            x_hat = saes[i].decode(acts, inside)
            accumulators[i].add_activations(where, goal, x_hat, acts.feature, acts.token)
            of_sae = everywhere = spliced_scores(place, keep, x_hat)
            if bool((real & ~keep).any()):
                left_out = x[real & ~keep].to(device, torch.float32)
                everywhere = spliced_scores(place, real, _at_every(saes[i], x_hat, keep[real].to(device), left_out))
            scores = torch.cat([ce[:, None], of_sae, everywhere, of_zeros[place.writes]], dim=1)
            for row, n in enumerate(lengths):
                accumulators[i].add_scores(int(unit[row]), n - 1, scores[row])


def _at_every(sae: SAE, x_hat: Tensor, kept: Tensor, left_out: Tensor) -> Tensor:
    """The reconstruction at every position: `x_hat` where a token is `kept`, elsewhere that of `left_out`."""
    out = x_hat.new_empty(len(kept), x_hat.shape[1])
    out[kept], out[~kept] = x_hat, sae.decode(sae.encode_sparse(left_out), left_out)
    return out


def _check_finite(place: _Place, finite: Tensor) -> None:
    if not bool(finite):
        raise DataError(
            f"the model's activations at {hook_text(place.names)} are not finite",
            accepted="finite numbers",
            fix="load the model in float32, and check its weights",
        )


def _spliced(
    model: LanguageModel, tokens: Tensor, mask: Tensor, writes: HookPoint, at: Tensor, values: Tensor
) -> Tensor:
    """Logits with `values` in the place of the activations at the tokens `at`, at every hook point that is written."""
    names = hook_names(writes)
    blocks = torch.split(values, [model.hook_width(name) for name in names], dim=-1)
    hooks = [(name, _replace(model.hook_layout(name), at, block)) for name, block in zip(names, blocks, strict=True)]
    return model.forward(tokens, hooks=hooks, attention_mask=mask)[0]


def _scores(log_p: Tensor, logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """For each window the sums over its next tokens of the cross-entropy and of the divergence from log_p."""
    rows = []
    for row, length in enumerate(mask.sum(1).tolist()):
        p, q = log_p[row, : length - 1], logits[row, : length - 1].float().log_softmax(-1)
        kl = doubles((p.exp() * (p - q)).sum(-1)).sum()
        rows.append(torch.stack([doubles(token_nll(q, tokens[row, 1:length])).sum(), kl]))
    return torch.stack(rows)


def _replace(layout: HookLayout, keep: Tensor, values: Tensor) -> Callable[[Tensor], Tensor]:
    """A hook that puts `values` in the place of the activations at `keep` and leaves the others."""

    def hook(x: Tensor) -> Tensor:
        flat = layout.flatten(x).clone()
        flat[keep] = values.to(flat.device, flat.dtype)
        return layout.restore(flat, x)

    return hook
