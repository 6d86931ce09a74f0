from dataclasses import replace

import pytest
import torch

import saekit as sk
from conftest import HOOK, tiny_sae
from saekit.errors import DataError, UnknownNameError
from saekit.steering.edit_hooks import apply_edits
from saekit.steering.output_scores import STARTS


@pytest.mark.parametrize("activation", ["topk", "batchtopk", "relu"])
def test_scores_equal_one_clamp_at_a_time(llama, activation):
    sae = tiny_sae(llama, activation=activation)
    features, words, starts = [5, 9, 40], ["g", "b"], STARTS[:2]
    got = sk.output_scores(llama, sae, features, words, starts=starts, batch_size=2, progress=False)
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
    assert got["score"].is_monotonic_decreasing
    assert got["score"].to_numpy() == pytest.approx(got[words].mean(axis=1).to_numpy())


def test_a_direction_that_writes_a_word_wins(llama):
    """A feature made of a word's own unembedding direction, at the last layer, must come first for that word."""
    sae = sk.SAE(replace(tiny_sae(llama).config, hook_name="blocks.1.hook_resid_post"))
    word = llama.tokenize("q", bos=False)[0]
    with torch.no_grad():
        direction = llama.unembedding()[:, word]
        sae.W_dec[7] = direction / direction.norm()
    assert sk.output_scores(llama, sae, range(20), ["q"], strength=1.0, progress=False).index[0] == 7


def test_wrong_uses(llama):
    sae = tiny_sae(llama)
    with pytest.raises(DataError, match="nothing to score"):
        sk.output_scores(llama, sae, [1], [])
    with pytest.raises(UnknownNameError, match="feature"):
        sk.output_scores(llama, sae, [10_000], ["a"])
