"""Input and output scores of features as Arad et al. 2025 define them: does it fire on its words, does it write them?

A feature's own words are its top tokens by the logit lens. The output score asks whether the model says one of them
when the feature is amplified; the input score, whether the feature fires on them. Neither knows of a concept: see
`word_effects` for what a feature does for given words.

Source: Arad, Mueller and Belinkov 2025, SAEs Are Good for Steering, If You Select the Right Features (arXiv
2505.20063), with the constants of their published code: 20 logit-lens tokens, the neutral prompt "From my experience,",
an amplification of 10 times the largest activation of the prompt's last token, added at that token.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from ..arguments import checks_arguments
from ..errors import ConfigError, MismatchError, check_feature
from ..index import FeatureIndex
from ..index.directions import logit_effects, written_to_residual
from ..models import LanguageModel
from ..sae import SAE
from .make_edits import add

NEUTRAL_PROMPT = "From my experience,"
N_LENS_TOKENS = 20
AMPLIFICATION = 10.0
MIN_CONTEXTS = 10
"""Fewer strongest contexts give no input score."""


@checks_arguments
def output_scores(
    model: LanguageModel,
    sae: SAE,
    features: Sequence[int],
    *,
    prompt: str = NEUTRAL_PROMPT,
    amplification: float = AMPLIFICATION,
    n_tokens: int = N_LENS_TOKENS,
    batch_size: int = 32,
) -> pd.DataFrame:
    """A row per feature, best first: (1 - rank / d_vocab) x probability of its own top logit-lens token, amplified.

    At the last token of `prompt` the feature's activation is raised by `amplification` times the largest activation of
    any feature there; the SAE's error is kept. Of the feature's `n_tokens` top tokens by the logit lens, the most
    likely next one counts: `token`, its `probability` and its `rank` (0 is the model's first choice). score: from 0 to
    1, 1 for a feature that makes the model say one of its words for certain. Raises MismatchError for an SAE that does
    not write to the residual stream, UnknownNameError for features that it does not have.

    Source: Arad, Mueller and Belinkov 2025, section 3 and their published code.

    >>> sk.output_scores(model, sae, [3, 7]).columns.tolist()
    ['score', 'probability', 'rank', 'token']
    """
    sae.check(model)
    features = [check_feature(i, sae.config.d_sae) for i in features]
    if batch_size < 1:
        raise ConfigError("batch_size is not positive", got=batch_size, accepted="1 or more")
    if not features:
        return pd.DataFrame(columns=["score", "probability", "rank", "token"], index=pd.Index([], name="feature"))
    lens = lens_tokens(model, sae, features, n_tokens)
    tokens = torch.tensor([model.tokenize(prompt, bos=sae.config.prepend_bos)])
    hook_name = add(sae, {features[0]: 1.0}).hook_name
    x = model.activations(tokens, hook_name)[:, -1]
    with torch.no_grad():
        largest = float(sae.encode(x.to(sae.W_dec.device, sae.W_dec.dtype)).max())
    rows = []
    for at in range(0, len(features), batch_size):
        part = features[at : at + batch_size]
        change = [add(sae, {i: amplification * largest}).delta(x, x.float().norm(dim=-1)) for i in part]
        logits = _with_last(model, hook_name, tokens, torch.cat(change))
        for own, probabilities in zip(lens[at : at + len(part)], logits.float().softmax(-1).cpu(), strict=True):
            best = int(own[probabilities[own].argmax()])
            rank = int((probabilities > probabilities[best]).sum())
            probability = float(probabilities[best])
            rows.append(((1 - rank / len(probabilities)) * probability, probability, rank, best))
    table = pd.DataFrame(
        rows, columns=["score", "probability", "rank", "token"], index=pd.Index(features, name="feature")
    )
    table["token"] = [model.token_strings([int(i)])[0] for i in table["token"]]
    return table.sort_values("score", ascending=False, kind="stable")


@checks_arguments
def input_scores(
    model: LanguageModel, sae: SAE, index: FeatureIndex, features: Sequence[int], *, n_tokens: int = N_LENS_TOKENS
) -> pd.DataFrame:
    """A row per feature, best first: the fraction of its strongest contexts that fire on one of its own top tokens.

    score: of the index's strongest contexts, at most one per window, those whose firing token is among the feature's
    `n_tokens` top tokens by the logit lens; nan with fewer than ten contexts. Raises MismatchError when the index is of
    another SAE or the SAE does not write to the residual stream, UnknownNameError for features that it does not have.

    Source: Arad, Mueller and Belinkov 2025, section 3; they take up to 100 contexts, an index of the default size 20.

    >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    >>> sk.input_scores(model, sae, index, [3, 7]).columns.tolist()
    ['score', 'n_contexts']
    """
    if index.sae_fingerprint != sae.fingerprint:
        raise MismatchError(
            "the index was built with another SAE",
            got=index.sae_fingerprint,
            accepted=sae.fingerprint,
            fix="pass the index of this SAE, or build one with sk.build_index",
        )
    features = [check_feature(i, sae.config.d_sae) for i in features]
    rows = []
    for i, own in zip(features, lens_tokens(model, sae, features, n_tokens).tolist(), strict=True):
        contexts = index.feature(i).top
        on_own = [int(index.windows.tokens[c.window, c.pos]) in own for c in contexts]
        rows.append((sum(on_own) / len(contexts) if len(contexts) >= MIN_CONTEXTS else float("nan"), len(contexts)))
    table = pd.DataFrame(rows, columns=["score", "n_contexts"], index=pd.Index(features, name="feature"))
    return table.sort_values("score", ascending=False, kind="stable")


def lens_tokens(model: LanguageModel, sae: SAE, features: Sequence[int], n: int) -> Int[Tensor, "n_features n"]:
    """Each feature's n top tokens by the logit lens, best first."""
    if not 1 <= n <= model.d_vocab:
        raise ConfigError("not that many logit-lens tokens", got=n, accepted=f"1 to {model.d_vocab:,}")
    written = written_to_residual(sae, model, sae.config.hook_name or "")
    if written is None:
        raise MismatchError(
            "features that do not write to the residual stream have no logit lens",
            got=str(sae.config.hook_name),
            accepted="an SAE of the residual stream, or of what is added to it",
            fix="use sk.word_effects, which measures what the model says",
        )
    promoted, _ = logit_effects(written[list(features)], model.unembedding(), n=n)
    return torch.as_tensor(promoted.column).long().cpu()


@torch.inference_mode()
def _with_last(model: LanguageModel, hook_name: str, tokens: Tensor, change: Tensor) -> Tensor:
    """The next token's logits [rows d_vocab] when each row's last activation is changed."""
    layout = model.hook_layout(model.first_name(hook_name))

    def raised(activation: Tensor) -> Tensor:
        x = layout.flatten(activation).clone()
        x[:, -1] += change.to(x)
        return layout.restore(x, activation)

    logits, _ = model.forward(tokens.expand(len(change), -1), hooks=[(model.first_name(hook_name), raised)])
    return logits[:, -1]
