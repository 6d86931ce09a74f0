"""The input and output scores of Arad et al. 2025, against their definition worked out one feature at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import saekit as sk
from conftest import HOOK, tiny_sae, tiny_texts
from saekit.errors import ConfigError, MismatchError, UnknownNameError
from saekit.steering.output_scores import NEUTRAL_PROMPT, lens_tokens


def by_definition(model: Any, sae: Any, feature: int, n_tokens: int, amplification: float) -> tuple[float, float, int]:
    """Score, probability and rank as the paper's code computes them: encode, raise, decode, keep the error."""
    tokens = torch.tensor([model.tokenize(NEUTRAL_PROMPT, bos=sae.config.prepend_bos)])
    logits_of_row = sae.W_dec[feature].detach().float() @ model.unembedding().float()
    own = logits_of_row.argsort(descending=True)[:n_tokens].tolist()

    def raised(x: Any) -> Any:
        acts = sae.encode(x[0])
        error = x[0] - sae.decode(acts)
        acts[-1, feature] += amplification * acts[-1].max()
        out = x.clone()
        out[0, -1] = (sae.decode(acts) + error)[-1]
        return out

    with torch.no_grad():
        probabilities = model.forward(tokens, hooks=[(HOOK, raised)])[0][0, -1].float().softmax(-1)
    order = probabilities.argsort(descending=True).tolist()
    ranks = [order.index(token) for token in own]
    probability = max(float(probabilities[token]) for token in own)
    return (1 - min(ranks) / len(order)) * probability, probability, min(ranks)


@pytest.mark.parametrize("which", ["llama", "model"])
@pytest.mark.parametrize("activation", ["topk", "relu", "batchtopk"])
def test_output_scores_are_those_of_the_paper(which: str, activation: str, request: Any) -> None:
    model = request.getfixturevalue(which)
    sae = tiny_sae(model, activation=activation)
    features = [3, 9, 40, 41, 60]
    found = sk.output_scores(model, sae, features, n_tokens=5, amplification=4.0, batch_size=2)
    assert sorted(found.index) == features and found["score"].is_monotonic_decreasing
    for i in features:
        score, probability, rank = by_definition(model, sae, i, 5, 4.0)
        assert found.loc[i, "score"] == pytest.approx(score, abs=1e-5)
        assert found.loc[i, "probability"] == pytest.approx(probability, abs=1e-5)
        assert found.loc[i, "rank"] == rank


def test_a_feature_that_writes_its_own_word_scores_nearly_1(llama: Any) -> None:
    sae = sk.SAE(replace(tiny_sae(llama).config, hook_name="blocks.1.hook_resid_post"))
    word = llama.tokenize("q", bos=False)[0]
    with torch.no_grad():
        toward = llama.unembedding()[:, word] - llama.unembedding().mean(1)
        sae.W_dec[7] = toward / toward.norm()
        sae.b_enc += 1.0
    found = sk.output_scores(llama, sae, [7, 8], amplification=300.0)
    assert found.index[0] == 7 and found.loc[7, "token"] == "q" and found.loc[7, "rank"] == 0
    weak = sk.output_scores(llama, sae, [7], amplification=0.0)
    assert weak.loc[7, "score"] < found.loc[7, "score"], "without amplification it is any feature"


def test_input_scores_count_strongest_contexts_on_own_tokens(llama: Any, tmp_path: Path) -> None:
    sae = tiny_sae(llama, activation="relu")
    index = sk.build_index(llama, sae, sk.load_corpus(tiny_texts()), out=tmp_path, length=32, progress=False)
    features = [3, 9, 17, 40]
    found = sk.input_scores(llama, sae, index, features, n_tokens=8)
    assert found["n_contexts"].max() >= 10
    for i in features:
        effects = sae.W_dec[i].detach().float() @ llama.unembedding().float()
        own = set(llama.token_strings(effects.argsort(descending=True)[:8].tolist()))
        contexts = index.feature(i).top
        assert found.loc[i, "n_contexts"] == len(contexts)
        if len(contexts) < 10:
            assert np.isnan(found.loc[i, "score"])
        else:
            assert found.loc[i, "score"] == np.mean([c.tokens[c.centre] in own for c in contexts])


def test_wrong_uses(llama: Any, tmp_path: Path) -> None:
    sae = tiny_sae(llama)
    with pytest.raises(UnknownNameError, match="feature"):
        sk.output_scores(llama, sae, [10_000])
    with pytest.raises(ConfigError, match="n_tokens is not positive"):
        sk.output_scores(llama, sae, [1], n_tokens=0)
    with pytest.raises(ConfigError, match="logit-lens tokens"):
        sk.output_scores(llama, sae, [1], n_tokens=10**6)
    with pytest.raises(ConfigError, match="batch_size"):
        sk.output_scores(llama, sae, [1], batch_size=0)
    query = sk.SAE(replace(sae.config, hook_name="blocks.0.attn.hook_q"))
    with pytest.raises(MismatchError, match="no logit lens"):
        lens_tokens(llama, query, [1], 3)
    index = sk.build_index(llama, sae, sk.load_corpus(tiny_texts()), out=tmp_path, length=32, progress=False)
    with pytest.raises(MismatchError, match="another SAE"):
        sk.input_scores(llama, tiny_sae(llama, d_sae=32), index, [1])
    assert sk.output_scores(llama, sae, []).empty
