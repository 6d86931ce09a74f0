"""What a token filter leaves out of a text or of an array of activations, found by one pass over it."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..corpus import AnyCorpus, Windows, as_corpus, tokenize
from ..errors import ConfigError
from ..hook_points import HookPoint, hook_names
from ..models import LanguageModel
from ..sae import TokenFilter
from .array_digest import as_floats
from .excluded import ExcludedTokens, ExclusionCounter
from .forward import WINDOWS_PER_RUN
from .token_filter import default_token_filter


def describe_token_filter(
    model: LanguageModel | None,
    text: AnyCorpus | Windows | Float[Tensor, "n d"] | Float[np.ndarray, "n d"],
    hook_name: HookPoint,
    token_filter: TokenFilter | None = None,
    *,
    n_tokens: int | None = 20_000,
    length: int = 128,
    prepend_bos: bool | None = None,
) -> ExcludedTokens:
    """What a token filter leaves out at a hook point or at several: tokens, share of the norm, and which words.

    `text` is the first `n_tokens` tokens of a corpus in windows of `length`, or Windows, all of them; or an array of
    activations, of which there are no words and special tokens are not known. `token_filter` None is
    `default_token_filter`. A transcoder's filter is for what it reads and then what it writes: pass both names.

    ConfigError for an array without a token filter, and for text without a model.

    >>> sk.activations.describe_token_filter(model, corpus.take(4), HOOK, length=16)  # doctest: +ELLIPSIS
    left out: 13 of 183 tokens (7.1%), 13 special and 0 by norm (0.0% of the others); they hold ...
    """
    names = hook_names(hook_name)
    if isinstance(text, Tensor | np.ndarray):
        return _of_array(text, names, token_filter)
    if model is None:
        raise ConfigError(
            "a text has no activations without a model", got="model=None", accepted="a model, or an array instead"
        )
    token_filter = token_filter or default_token_filter(model, hook_name)
    widths = [model.hook_width(name) for name in names]
    windows = text
    if not isinstance(windows, Windows):
        corpus = as_corpus(windows, also="Windows or an array of activations")
        windows = tokenize(corpus, model, length=length, max_tokens=n_tokens, prepend_bos=prepend_bos)
    counter = ExclusionCounter(token_filter, names, widths)
    with torch.inference_mode():
        for tokens, mask, _ in windows.batches(WINDOWS_PER_RUN):
            x, real = model.activations(tokens, hook_name, attention_mask=mask), mask.bool()
            ids = tokens.to(x.device)
            real = real.to(x.device)
            counter.add(ids[real], x[real], token_filter.keep(ids[real], x[real]))
    return counter.result(model.vocabulary.shown if model.has_tokenizer else ())


def _of_array(x: Tensor | np.ndarray, names: tuple[str, ...], token_filter: TokenFilter | None) -> ExcludedTokens:
    if token_filter is None or (len(names) > 1 and not token_filter.blocks):
        raise ConfigError(
            "an array of activations does not say which of its tokens count",
            got="no token filter" if token_filter is None else f"{len(names)} hook points in one block",
            accepted="a TokenFilter, with the width and limit of each of several hook points",
            fix="pass sae.config.token_filter, or sk.TokenFilter(max_norm=4 * median norm)",
        )
    rows = as_floats(x).reshape(-1, x.shape[-1])
    widths = [width for width, _ in token_filter.blocks][: len(names)] or [rows.shape[-1]]
    unknown = torch.full((len(rows),), -1)
    counter = ExclusionCounter(token_filter, names, widths)
    keep = token_filter.keep(unknown, rows)
    counter.totals += counter.norm_totals(unknown, rows, keep)
    counter.seen, counter.excluded = np.array([len(rows)]), np.array([int((~keep).sum())])
    return counter.result_without_words()
