"""Feature absorption on words and SAEs made by hand, where every absorbed word is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

import saekit as sk
from conftest import HOOK, tiny_sae
from saekit.errors import ConfigError, DataError
from saekit.evaluation.saebench.absorbed_words import absorbed, main_features
from saekit.evaluation.saebench.absorption import absorption_by_letter, encode
from saekit.evaluation.saebench.letters import first_letter, read_words, vocabulary_words
from saekit.models.token_text import Vocabulary

N = 60
"""Words of each letter."""


def hand_made(n_absorbed: int, *, n_letters: int = 3, d_in: int = 10, noise: float = 0.01, seed: int = 0):
    """Letter c lies on axis c and is read by feature c. On n_absorbed words of the letter a feature 0 is silent, and a
    feature of that word alone, which looks along axis 0 and a second axis, stands in its place."""
    rng = np.random.default_rng(seed)
    letters = np.repeat([chr(97 + c) for c in range(n_letters)], N)
    x = noise * rng.standard_normal((len(letters), d_in))
    y = np.repeat(np.arange(n_letters), N)
    x[np.arange(len(y)), y] += 1.0
    swallowing = (np.eye(d_in)[0] + 0.5 * np.eye(d_in)[d_in - 1]) / np.sqrt(1.25)
    W_dec = np.concatenate([np.eye(d_in)[:n_letters], np.tile(swallowing, (N, 1))])
    acts = np.where(np.eye(n_letters)[y] > 0, 1.0, 0.0)
    acts = np.concatenate([acts, np.zeros((len(y), N))], axis=1)
    taken = rng.permutation(N)[:n_absorbed]
    x[taken, d_in - 1] += 0.5
    acts[taken, 0], acts[taken, n_letters + taken] = 0.0, np.sqrt(1.25)
    words = tuple(f" {v}{i}" for i, v in enumerate(letters))
    return x, sparse.csr_array(acts), W_dec, tuple(letters), words, set(taken.tolist())


@pytest.mark.parametrize("n_absorbed", [0, 12, 30])
def test_the_rate_is_the_share_of_absorbed_words(n_absorbed):
    x, acts, W_dec, letters, words, taken = hand_made(n_absorbed)
    table, found, (rate, fraction) = absorption_by_letter(x, acts, W_dec, letters, words)
    a = table.loc["a"]
    assert (table.reason == "").all() and (table.probe_f1 > 0.99).all()
    assert a.main_features == (0,) and table.loc["b"].main_features == (1,)
    assert set(found.word) <= {words[i] for i in taken} and set(found.letter) <= {"a"}
    assert a.n_right == 18 and a.n_absorbed == len(found)
    assert a.rate == pytest.approx(a.n_absorbed / 18) == pytest.approx(a.fraction)
    assert rate.value == pytest.approx(a.rate / 3) and table.loc["b"].rate == 0
    assert rate.low <= rate.value < rate.high and fraction.value == pytest.approx(rate.value)
    assert (rate.n_units, rate.unit) == (54, "words")
    if n_absorbed:
        assert 0.4 * n_absorbed / N < a.rate < 1.7 * n_absorbed / N
        assert all(words[f - 3] == word for f, word in zip(found.feature, found.word, strict=True))
        assert len(a.absorbing_features) == min(3, a.n_absorbed) and a.rate_low < a.rate < a.rate_high
        assert found.projection_fraction.between(0.7, 1.3).all()


def test_with_every_word_held_out_the_rate_is_exact():
    x, acts, W_dec, *_, taken = hand_made(12)
    judged = absorbed(x, acts, W_dec, 7.0 * np.eye(10)[0], np.array([0]), np.arange(N))
    assert {w.row for w in judged if w.absorbed} == taken and sum(w.absorbed for w in judged) / N == 0.2
    dense = absorbed(x, acts.toarray(), W_dec, np.eye(10)[0], np.array([0]), np.arange(N))
    assert [(w.absorbed, w.feature) for w in dense] == [(w.absorbed, w.feature) for w in judged]


def one_word(values, cosines, total=1.0):
    """A word whose features have these activations and cosines with the probe direction; feature 0 is the main one."""
    cosines = np.array(cosines, dtype=float)
    W_dec = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    x = np.array([[total, 0.0]])
    direction, main = np.array([1.0, 0.0]), np.array([0])
    return absorbed(x, np.array([values], dtype=float), W_dec, direction, main, np.array([0]))[0]


def test_each_condition_of_the_definition_counts():
    assert one_word([0, 1.0], [1, 0.5]).absorbed
    assert not one_word([0.1, 1.0], [1, 0.5]).absorbed  # the main feature fires
    assert not one_word([0, 1.0], [1, 0.39]).absorbed  # the other carries less than 0.4 of the projection
    assert not one_word([0, 100.0], [1, 0.02]).absorbed  # it is not aligned, however strong
    assert not one_word([0, 1.0], [1, 0.5], total=-1.0).absorbed  # the word itself points away
    nothing = one_word([0, 0.0], [1, 0.5])
    assert not nothing.absorbed and nothing.feature == -1 and nothing.fraction == 0


def test_the_fraction_counts_partial_absorption():
    assert one_word([0, 1.0], [1, 0.5]).fraction == 1
    assert one_word([1.0, 1.0], [1, 0.5]).fraction == 0  # the main feature carries it all
    assert one_word([0.5, 1.0], [1, 0.5]).fraction == pytest.approx(0.5)
    assert one_word([0.5, 2.0], [1, 0.9]).fraction == pytest.approx(0.5)  # what is left, not what it adds
    assert one_word([0.5, 0.3], [1, 0.9]).fraction == 0  # 0.27 is below 0.4
    assert one_word([0.5, 5.0], [1, 0.09]).fraction == 0  # cosine below 0.1
    many = one_word([0.2, 1, 1, 1, 1], [1, 0.2, 0.2, 0.2, 0.2])  # three of the four at most
    assert many.fraction == pytest.approx(0.6 / 0.8)


def test_main_features_are_added_as_long_as_they_help():
    y = np.arange(100) < 40
    first, second = np.zeros(100), np.zeros(100)
    first[:25], second[25:40] = 1.0, 1.0
    noise = 0.1 * np.random.default_rng(0).random(100)
    acts = np.stack([noise, first, second, np.where(y, 0, 5.0)], axis=1)
    assert main_features(sparse.csr_array(acts), y).tolist() == [1, 2]
    whole = np.stack([y * 1.0, first], axis=1)
    assert main_features(whole, y).tolist() == [0]


def test_a_letter_the_activations_do_not_tell_is_not_scored():
    x, acts, W_dec, letters, words, _ = hand_made(0)
    x[: 2 * N] = np.random.default_rng(0).standard_normal((2 * N, 10)) * 0.01  # a and b look alike
    table, _, (rate, _) = absorption_by_letter(x, acts, W_dec, (*letters, "z"), (*words, " z"), min_f1=0.95)
    assert table.loc["a"].reason.startswith("the model is not able: F1 0.")
    assert table.loc["z"].reason == "fewer than 10 words" and table.loc["c"].reason == ""
    assert rate.value == 0
    none = absorption_by_letter(np.ones_like(x), acts, W_dec, letters, words)
    assert (none[0].reason != "").all() and np.isnan(none[2][0].value)
    with pytest.raises(DataError, match="too few words"):
        absorption_by_letter(x[:N], acts[:N], W_dec, letters[:N], words[:N])


def test_centring_makes_a_shift_of_all_activations_harmless():
    x, acts, W_dec, letters, words, _ = hand_made(20)
    shift = 50 * np.eye(10)[0]
    plain = absorption_by_letter(x, acts, W_dec, letters, words)[0]
    far = absorption_by_letter(x + shift, acts, W_dec, letters, words)[0]
    back = absorption_by_letter(x + shift, acts, W_dec, letters, words, centre=shift)[0]
    assert far.rate["a"] == 0 < plain.rate["a"] == back.rate["a"]


# ---- words and the function ---------------------------------------------------------------------------------------


def test_words_are_read_at_their_last_token(model):
    words = [" cat", " dog", "a", " ant"]
    token_filter = sk.TokenFilter(special_ids=tuple(model.special_ids))
    read = read_words(model, words, HOOK, token_filter, template="so:{word} is", batch_size=3, progress=False)
    assert read.words == tuple(words) and read.letters == ("c", "d", "a", "a") and read.n_left_out == 0
    for word, x in zip(words, read.x, strict=True):
        expected = model.activations([model.tokenize("so:" + word)], HOOK)[0, -1]
        np.testing.assert_allclose(x, expected.double(), atol=1e-5)
    norms = np.linalg.norm(read.x, axis=1)
    strict = sk.TokenFilter(max_norm=float(np.sort(norms)[1]) + 1e-4)
    assert read_words(model, words, HOOK, strict, template="so:{word}", progress=False).n_left_out == 2
    with pytest.raises(ConfigError, match="does not hold {word} once"):
        read_words(model, words, HOOK, token_filter, template="no word", progress=False)
    with pytest.raises(DataError, match="no word counts"):
        read_words(model, words, HOOK, sk.TokenFilter(max_norm=1e-6), progress=False)


def test_first_letters_and_the_words_of_a_vocabulary(model, monkeypatch):
    assert [first_letter(w) for w in (" Bridge", "ox", " élan")] == ["b", "o", "é"]
    with pytest.raises(ConfigError, match="does not begin with a letter"):
        first_letter(" 42")
    with pytest.raises(DataError, match="holds no whole words"):
        vocabulary_words(model, 10)
    strings = [" bridge", " Gate", "fog", " a", " 12ab", " naïve", " the"]
    monkeypatch.setitem(model.__dict__, "vocabulary", Vocabulary([s.encode() for s in strings]))
    assert vocabulary_words(model, 10) == [" Gate", " bridge", " the"]
    assert len(vocabulary_words(model, 2)) == 2


def test_encode_gives_the_sae_s_own_numbers(model):
    x = np.random.default_rng(0).standard_normal((7, 32))
    sae = tiny_sae(model)
    expected = sae.encode(torch.from_numpy(x).float()).detach()
    np.testing.assert_allclose(encode(sae, x).toarray(), expected, atol=1e-6)


def test_the_function_scores_several_saes_on_the_same_probes(model, monkeypatch):
    words = [f" {a}{b}{c}" for a in "cdm" for b in "aeiou" for c in "tnrsp"]
    saes = [tiny_sae(model, k=8), tiny_sae(model, k=8, seed=4)]
    known = {"words": words, "min_f1": 0.0, "progress": False}
    one, two = sk.feature_absorption(model, saes, **known)
    assert one.table.index.tolist() == ["c", "d", "m"] and (one.table.n_words == 25).all()
    assert one.table.probe_f1.tolist() == two.table.probe_f1.tolist() and one.able
    text = str(one)
    assert text.startswith("Feature absorption by first letters: 3 of 3 letters scored\n  SAE topk")
    assert f"absorbed {one.rate:.3f}" in text and one.to_frame() is one.table
    able = sk.feature_absorption(model, saes[0], **known | {"min_f1": 1.0})
    assert not able.able and "the model is not able: no letter's probe reaches the bar" in str(able)
    assert np.isnan(able.rate.value) and able.words.empty
    with pytest.raises(ConfigError, match="min_f1 is not an F1"):
        sk.feature_absorption(model, saes[0], **known | {"min_f1": 60})
