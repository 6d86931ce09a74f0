"""Which tokens count, and the activations of those that do.

Special tokens and attention sinks are left out of training, statistics, metrics and probes, shown muted by highlights
and left unedited by steering. A sink is a position on which a model parks attention it has no use for; its activation
is a hundred times larger than any other and means nothing (Sun et al. 2024, "Massive activations in large language
models"). In the default model the first position is always one and some tokens make the second one too; a limit on the
norm, four times the median, separates them cleanly.

Training fits the token filter on its own text and stores it with the SAE. For an SAE without one,
`resolve_token_filter` fits one on packaged text, so that it depends on the model and the hook points alone and every
function leaves out the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from ..arguments import checks_arguments
from ..corpus import AnyCorpus, Windows, as_corpus, load_corpus, tokenize
from ..errors import ConfigError
from ..hook_points import HookPoint, hook_names
from ..models import LanguageModel
from ..sae import SAE, TokenFilter
from .excluded import ExcludedTokens, ExclusionCounter, warn_of_excluded
from .forward import WINDOWS_PER_RUN, WindowsForward, nothing_kept

SAMPLE_DOCUMENTS, SAMPLE_LENGTH = 16, 64
"""The text on which a default token filter is fitted: the first tokens of this many documents."""

_DEFAULTS: dict[tuple[object, ...], TokenFilter] = {}
"""The default token filters found so far, by model and hook point."""


def resolve_token_filter(model: LanguageModel, sae: SAE, hook_name: HookPoint | None = None) -> TokenFilter:
    """The token filter of an SAE: the one stored with it, else the default of the hook points it reads and writes.

    The default (`default_token_filter`) depends on the model and the hook points and on nothing else, so that every
    function leaves out the same tokens. A transcoder's covers what it reads and what it writes, as a stored one does.
    `hook_name` is needed only for an SAE that does not record its own. To count every token, store `TokenFilter()`.

    >>> sk.resolve_token_filter(model, sae) == sae.config.token_filter
    True
    >>> sae.config = sae.config.replace(token_filter=None)
    >>> sk.resolve_token_filter(model, sae) == sk.activations.default_token_filter(model, HOOK)
    True
    """
    if sae.config.token_filter is not None:
        return sae.config.token_filter
    reads = hook_name or sae.config.hook_name
    if reads is None:
        raise ConfigError("the SAE does not name the hook point it reads", fix="pass hook_name=...")
    names = tuple(dict.fromkeys((*hook_names(reads), *hook_names(sae.config.hook_out or reads))))
    return default_token_filter(model, names)


def default_token_filter(model: LanguageModel, hook_name: HookPoint) -> TokenFilter:
    """The token filter where none is stored: special tokens, and norms above four medians of a fixed sample of text.

    The sample is the beginning of a few documents of the demo corpus or, for a model whose tokenizer cannot read such
    text or that has none, random tokens. Found once for each model and hook point and then remembered. A steered model
    has that of the model without its edits.

    >>> sk.activations.default_token_filter(model, HOOK) == sk.activations.default_token_filter(
    ...     sk.steered(model, sk.ablate(sae, 3)), HOOK)
    True
    """
    base, names = model.base, hook_names(model.check_hook(hook_name))
    special_ids = _special_filter(base).special_ids
    dtype = next(base.bridge.original_model.parameters()).dtype
    of_model = (base.weights_fingerprint, base.weight_processing, dtype, special_ids)
    widths = {name: base.hook_width(name) for name in names}
    found = {name: _DEFAULTS[of_model, name] for name in names if (of_model, name) in _DEFAULTS}
    if missing := tuple(name for name in names if name not in found):
        with model.unedited(), torch.inference_mode():
            joined, _ = _fitted(base, _sample(base), missing)
        new = dict(zip(missing, joined.split([widths[name] for name in missing]), strict=True))
        if not base.is_hooked:  # what hooks have changed is not the model's own
            _DEFAULTS.update({(of_model, name): token_filter for name, token_filter in new.items()})
        found |= new
    return TokenFilter.joined([found[name] for name in names], [widths[name] for name in names])


def common_token_filter(model: LanguageModel, saes: Sequence[SAE], hook_name: HookPoint) -> TokenFilter:
    """The token filter that keeps a token when that of every SAE does, applied to the activations that the SAEs read.

    >>> sk.activations.common_token_filter(model, [sae, sae], HOOK) == sae.config.token_filter
    True
    """
    return TokenFilter.strictest([resolve_token_filter(model, s, hook_name).of_input(s.config.d_in) for s in saes])


@checks_arguments
def fit_token_filter(
    model: LanguageModel, windows: AnyCorpus | Windows, hook_name: HookPoint, n_windows: int = 64, multiple: float = 4.0
) -> TokenFilter:
    """The token filter that leaves out special tokens and tokens whose norm is above `multiple` medians.

    The median is over the tokens, special ones apart, of up to `n_windows` windows taken evenly from `windows`; the
    same each time. It is stored as a norm, so that the token filter can be applied to one token at a time; there is no
    limit where most activations are zero. Of several hook points each has its own, and a token must pass them all. A
    warning says so where it leaves out much of these windows (`describe_token_filter` shows what).

    >>> token_filter = sk.fit_token_filter(model, sk.tokenize(corpus, model, length=16), HOOK)
    >>> token_filter.max_norm > 0 and model.bos_id in token_filter.special_ids
    True
    """
    if not isinstance(windows, Windows):
        windows = tokenize(as_corpus(windows, also="Windows"), model, length=min(SAMPLE_LENGTH, model.n_ctx))
    token_filter, excluded = _fitted(model, windows, hook_name, n_windows, multiple)
    warn_of_excluded(excluded)
    return token_filter


def _fitted(
    model: LanguageModel, windows: Windows, hook_name: HookPoint, n_windows: int = 64, multiple: float = 4.0
) -> tuple[TokenFilter, ExcludedTokens]:
    """The token filter, and what it leaves out of the tokens it was found on; special ones are not counted."""
    if n_windows < 1 or multiple <= 1:
        raise ConfigError(
            "no token filter can be found this way", got=(n_windows, multiple), accepted="n_windows >= 1, multiple > 1"
        )
    special = _special_filter(model)
    sample = torch.linspace(0, len(windows) - 1, min(n_windows, len(windows))).long()
    sample = sample[windows.lengths[sample].argsort(stable=True)]
    widths = [model.hook_width(name) for name in hook_names(hook_name)]
    positions, norms = [], []
    for rows in torch.split(sample, WINDOWS_PER_RUN):
        position, x = WindowsForward(model, windows, rows, hook_name, special).kept()
        positions.append(position)
        norms.append(torch.stack([part.norm(dim=-1) for part in torch.split(x, widths, dim=-1)]))
    norm = torch.cat(norms, dim=1).cpu()
    if not norm.shape[1]:
        raise nothing_kept(windows, special)
    limits = [multiple * float(n.median()) or None for n in norm]
    token_filters = [TokenFilter(special_ids=special.special_ids, max_norm=limit) for limit in limits]
    token_filter = TokenFilter.joined(token_filters, widths)
    keep = torch.stack([n <= (limit or torch.inf) for n, limit in zip(norm, limits, strict=True)]).all(0)
    counter = ExclusionCounter(token_filter, hook_names(hook_name), widths)
    counter.count(windows.tokens.flatten()[torch.cat(positions)].numpy(), keep.numpy())
    return token_filter, counter.result(model.vocabulary.shown if model.has_tokenizer else ())


def _special_filter(model: LanguageModel) -> TokenFilter:
    """Special tokens alone; none are known of a model without a tokenizer."""
    return TokenFilter(special_ids=tuple(sorted(model.special_ids)))


def _sample(model: LanguageModel) -> Windows:
    """A fixed sample of text for any model; random tokens where text is mostly special tokens (unknown words) to it."""
    length, special_ids = min(SAMPLE_LENGTH, model.n_ctx), _special_filter(model).special_ids
    special = torch.tensor(special_ids, dtype=torch.int32)
    if model.has_tokenizer:
        texts = [document.text[: 32 * length] for document in load_corpus("demo").take(SAMPLE_DOCUMENTS)]
        windows = tokenize(texts, model, length=length)
        begins = (windows.documents[:, 1:] >= 0).any(1) & (windows.documents.amax(1).diff(prepend=-torch.ones(1)) != 0)
        windows = windows.select(begins.nonzero()[:, 0])
        if int((~torch.isin(windows.tokens, special)).sum()) * 2 >= windows.n_tokens:
            return windows
    plain = torch.arange(model.d_vocab, dtype=torch.int32)
    plain = plain[~torch.isin(plain, special)] if len(special_ids) < model.d_vocab else plain
    drawn = torch.randint(len(plain), (SAMPLE_DOCUMENTS, length), generator=torch.Generator().manual_seed(0))
    rows = torch.arange(SAMPLE_DOCUMENTS, dtype=torch.int32)
    documents, lengths = rows[:, None].expand(-1, length), torch.full_like(rows, length)
    return Windows(plain[drawn], documents, lengths, pd.DataFrame(index=rows.numpy()))
