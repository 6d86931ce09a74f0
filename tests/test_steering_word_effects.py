"""What clamping a feature does for given words, against one clamp at a time, with an interval over starts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import saekit as sk
from conftest import HOOK, tiny_sae
from saekit.errors import DataError, UnknownNameError
from saekit.statistics import clustered_mean
from saekit.steering.edit_hooks import apply_edits
from saekit.steering.word_effects import STARTS


@pytest.mark.parametrize("activation", ["topk", "batchtopk", "relu"])
def test_effects_equal_one_clamp_at_a_time(llama, activation):
    sae = tiny_sae(llama, activation=activation)
    features, words, starts = [5, 9, 40], ["g", "b"], STARTS[:2]
    got = sk.word_effects(llama, sae, features, words, starts=starts, batch_size=2, progress=False)
    for feature in features:
        for word in words:
            changes = []
            for question, answer in starts:
                tokens = torch.tensor([llama.tokenize(llama.chat_prompt(question) + answer)])
                edit = sk.clamp(sae, {feature: 0.5}, unit="norm")
                hook = (HOOK, lambda x, e=edit, t=tokens: apply_edits(x, [e], t))
                word_id = llama.tokenize(word, bos=False)[0]
                steered, clean = (llama.forward(tokens, hooks=h)[0][0, -1].log_softmax(-1) for h in ([hook], []))
                changes.append(float((steered - clean)[word_id]))
            assert got.loc[feature, word] == pytest.approx(sum(changes) / len(changes), abs=1e-4)
    assert got["effect"].is_monotonic_decreasing
    assert got["effect"].to_numpy() == pytest.approx(got[words].mean(axis=1).to_numpy())


def test_a_direction_that_writes_a_word_wins(llama):
    """A feature made of a word's own unembedding direction, at the last layer, must come first for that word."""
    sae = sk.SAE(replace(tiny_sae(llama).config, hook_name="blocks.1.hook_resid_post"))
    word = llama.tokenize("q", bos=False)[0]
    with torch.no_grad():
        direction = llama.unembedding()[:, word]
        sae.W_dec[7] = direction / direction.norm()
    assert sk.word_effects(llama, sae, range(20), ["q"], strength=1.0, progress=False).index[0] == 7


def test_the_interval_counts_starts(llama):
    sae, starts = tiny_sae(llama), [(f"Who are you {n}?", "I am") for n in range(6)]
    found = sk.word_effects(llama, sae, [3, 9], ["g", "b"], starts=starts, progress=False)
    alone = [sk.word_effects(llama, sae, [3, 9], ["g", "b"], starts=[s], progress=False) for s in starts]
    for i in (3, 9):
        wanted = clustered_mean([[a.loc[i, "effect"]] for a in alone])
        row = found.loc[i]
        assert (row["effect"], row["effect_low"], row["effect_high"]) == pytest.approx(
            (wanted.value, wanted.low, wanted.high), abs=1e-5
        )
    assert (found["n_starts"] == 6).all() and found["effect_low"].notna().all()
    few = sk.word_effects(llama, sae, [3], ["g"], starts=starts[:4], progress=False)
    assert np.isnan(few.loc[3, "effect_low"]) and few.loc[3, "n_starts"] == 4
    assert sk.word_effects(llama, sae, [], ["g"], starts=starts, progress=False).empty


def test_wrong_uses(llama):
    sae = tiny_sae(llama)
    with pytest.raises(DataError, match="nothing to score"):
        sk.word_effects(llama, sae, [1], [])
    with pytest.raises(UnknownNameError, match="feature"):
        sk.word_effects(llama, sae, [10_000], ["a"])
