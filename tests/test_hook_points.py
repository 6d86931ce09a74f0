"""Every hook point is read as one vector for each token, whichever axis the heads have, or is refused by its name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import saekit as sk
from conftest import HOOK
from saekit.errors import MismatchError
from saekit.models.hook_layout import PROBES, find_layout
from saekit.steering.readout import TextSample, read

PATTERN = "blocks.0.attn.hook_pattern"
Q, K, V, Z = (f"blocks.1.attn.hook_{name}" for name in "qkvz")
ROTATED = "blocks.1.attn.hook_rot_k"
TEXTS = ["the golden gate is red", "a cat sat on the mat while rain fell"] * 10
EVERYWHERE = sk.TokenFilter()


def sae_at(model: Any, hook_name: Any, d_in: int | None = None) -> sk.SAE:
    width = d_in or model.hook_width(hook_name)
    return sk.SAE(
        sk.SAEConfig(
            d_in=width, d_sae=24, activation="relu", hook_name=hook_name, model_name=model.name, token_filter=EVERYWHERE
        )
    )


@pytest.fixture
def heads_first(llama: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The Llama with a hook point whose axes are [batch, head, pos, d_head], as some architectures have them."""
    point = llama.bridge.hook_dict[Z]
    plain = point.hook_conversion

    class HeadsFirst:
        def convert(self, x: torch.Tensor) -> torch.Tensor:
            turned: torch.Tensor = plain.convert(x).transpose(1, 2)
            return turned

        def revert(self, x: torch.Tensor) -> torch.Tensor:
            back: torch.Tensor = plain.revert(x.transpose(1, 2))
            return back

    monkeypatch.setattr(llama, "_layouts", {})
    monkeypatch.setattr(point, "hook_conversion", HeadsFirst())
    return llama


# ---- which axis is which ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [HOOK, Q, K, V, Z, ROTATED])
def test_heads_come_side_by_side(llama: Any, name: str) -> None:
    tokens = torch.tensor([[5, 6, 7, 8, 9]])
    seen: list[torch.Tensor] = []
    llama.forward(tokens, hooks=[(name, seen.append)])
    expected = torch.stack([seen[0][0, i].flatten() for i in range(5)])
    assert torch.equal(llama.activations(tokens, name)[0], expected)
    assert llama.hook_width(name) == expected.shape[1] == (16 if name in (K, V, ROTATED) else 32)


def test_heads_that_come_first_are_brought_behind_the_positions(llama: Any, heads_first: Any) -> None:
    tokens = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])
    seen: list[torch.Tensor] = []
    heads_first.forward(tokens, hooks=[(Z, seen.append)])
    assert seen[0].shape == (2, 4, 5, 8)
    found = heads_first.activations(tokens, Z)
    expected = [torch.cat([seen[0][1, head, i] for head in range(4)]) for i in range(5)]
    assert torch.equal(found[1], torch.stack(expected)) and heads_first.hook_layout(Z).positions == 2


def test_everything_works_where_heads_come_first(llama: Any, heads_first: Any, monkeypatch: Any) -> None:
    sae = sae_at(heads_first, Z)
    edits = [sk.clamp(sae, {3: 0.5}, unit="norm"), sk.ablate(sae, 5)]
    sample = TextSample((5, 6), (5, 6), (7, 8, 9), tuple(edits))

    def results() -> list[Any]:
        calm = sk.steered(llama, edits)
        evaluation = sk.evaluate(llama, sae, sk.load_corpus(TEXTS), length=16, progress=False)
        [reading] = list(read(llama, sae, [sample]))
        sparse = sk.ablation_sparsity(
            llama, sae, sk.load_corpus(TEXTS), n_tokens=2, n_features=2, n_following=3, progress=False
        )
        return [
            calm.forward([[5, 6, 7]])[0],
            sk.generate(llama, "the cat", edits=edits, max_new_tokens=4).tokens,
            sk.generate(calm, "the cat", max_new_tokens=4).tokens,
            torch.tensor([evaluation.explained_variance, evaluation.l0, evaluation.kl]),
            reading.after,
            reading.feature_acts,
            torch.tensor(sparse.table.sparsity.to_numpy()),
        ]

    first = results()
    monkeypatch.undo()  # the same numbers, in the order in which the model has them
    for found, expected in zip(first, results(), strict=True):
        torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize("name", [Q, K, V, Z])
def test_an_edit_is_written_back_in_the_shape_of_the_heads(llama: Any, name: str) -> None:
    sae, tokens = sae_at(llama, name), torch.tensor([[5, 6, 7, 8]])
    edit = sk.add(sae, {3: 2.0})

    def by_hand(x: torch.Tensor) -> torch.Tensor:
        return x + 2 * sae.W_dec[3].detach().view(x.shape[2:])

    expected = llama.forward(tokens, hooks=[(name, by_hand)])[0]
    assert (expected - llama.forward(tokens)[0]).abs().max() > 1e-4
    torch.testing.assert_close(sk.steered(llama, edit).forward(tokens)[0], expected)


# ---- what is refused ----------------------------------------------------------------------------------------------


def test_a_pattern_is_refused_before_anything_is_run(llama: Any, tmp_path: Any, monkeypatch: Any) -> None:
    corpus = sk.load_corpus(TEXTS)
    sae = sae_at(llama, PATTERN, d_in=20)
    direction = sk.Direction(torch.ones(20), PATTERN, token_filter=EVERYWHERE)
    config = sk.SAEConfig(d_in=20, d_sae=24, k=2)
    training = sk.TrainConfig(n_tokens=64, batch_size=16, context_size=16)
    cut = {"length": 16, "progress": False}
    functions = {
        "width": lambda: llama.hook_width(PATTERN),
        "activations": lambda: llama.activations([[5, 6, 7]], PATTERN),
        "two": lambda: llama.activations([[5, 6, 7]], (HOOK, PATTERN)),
        "batches": lambda: sk.activation_batches(llama, corpus, PATTERN, batch_size=16),
        "cache": lambda: sk.cache_activations(llama, corpus, PATTERN, tmp_path / "cache", **cut),
        "train": lambda: sk.train(llama, corpus, sae=config, config=training, hook_name=PATTERN, progress=False),
        "evaluate": lambda: sk.evaluate(llama, sae, corpus, **cut),
        "index": lambda: sk.build_index(llama, sae, corpus, out=tmp_path / "index", **cut),
        "highlight": lambda: sk.highlight(llama, sae, "the cat"),
        "generate": lambda: sk.generate(llama, "the cat", edits=sk.ablate(sae, 3)),
        "steered": lambda: sk.steered(llama, sk.ablate(sae, 3)),
        "direction": lambda: sk.steered(llama, sk.add_direction(direction, 1.0)),
        "word_effects": lambda: sk.word_effects(llama, sae, [3], ["g"], progress=False),
        "probing": lambda: sk.sparse_probing(llama, sae, sk.load_corpus(TEXTS), label="x", **cut),
        "panel": lambda: sk.steer(llama, sae),
    }
    longest = []
    plain = llama._run
    monkeypatch.setattr(llama, "_run", lambda tokens, *a, **k: longest.append(tokens.numel()) or plain(tokens, *a, **k))
    for name, function in functions.items():
        with pytest.raises(MismatchError, match=rf"at {PATTERN} is not one vector of fixed width[\s\S]*attn.hook_z"):
            function()
            pytest.fail(name)
    assert max(longest) <= 15 and not list(tmp_path.glob("*/*"))


@pytest.mark.parametrize("name", ["blocks.0.attn.hook_attn_scores", "embed.hook_in", "rotary_emb.hook_cos"])
def test_others_without_a_vector_for_each_token_are_refused(llama: Any, name: str) -> None:
    with pytest.raises(MismatchError, match=r"is not one vector of fixed width[\s\S]*fix: +read .*hook_"):
        llama.hook_width(name)


def test_a_hook_point_that_never_runs_or_runs_twice_says_so(llama: Any) -> None:
    with pytest.raises(MismatchError, match="never fires"):
        llama.activations([[5]], "rotary_emb.hook_out")
    (a, n), (b, m) = PROBES
    with pytest.raises(MismatchError, match=r"more than once in a pass[\s\S]*2 activations[\s\S]*read mlp.hook_out"):
        find_layout("mlp.hook_mid", [[(a, n, 8)] * 2, [(b, m, 8)] * 2], ["mlp.hook_out"])
    with pytest.raises(MismatchError, match="fixed width"):  # experts see all tokens of a batch in one row
        find_layout("mlp.hook_mid", [[(a * n, 8)], [(b * m, 8)]], ["mlp.hook_out"])


# ---- two names of one point ---------------------------------------------------------------------------------------

ALIAS = "blocks.0.hook_out"


def test_edits_at_two_names_of_one_point_run_in_the_order_given(llama: Any) -> None:
    one, two = sae_at(llama, HOOK), sae_at(llama, ALIAS)
    tokens = torch.tensor([[5, 6, 7, 8]])
    orders = {}
    for first, second, third in ((one, two, one), (two, one, two)):
        edits = [sk.clamp(first, {3: 4.0}), sk.scale(second, {3: 3.0}), sk.clamp(third, {5: 1.0})]
        same = [sk.clamp(one, {3: 4.0}), sk.scale(one, {3: 3.0}), sk.clamp(one, {5: 1.0})]
        expected = sk.steered(llama, same).forward(tokens)[0]
        torch.testing.assert_close(sk.steered(llama, edits).forward(tokens)[0], expected)
        written = sk.generate(llama, "the cat", edits=same, max_new_tokens=5).tokens
        assert sk.generate(llama, "the cat", edits=edits, max_new_tokens=5).tokens == written
        assert sk.generate(sk.steered(llama, edits), "the cat", max_new_tokens=5).tokens == written
        [as_written] = read(llama, one, [TextSample((5, 6), (5, 6), (7, 8), tuple(edits))])
        [as_same] = read(llama, one, [TextSample((5, 6), (5, 6), (7, 8), tuple(same))])
        assert torch.equal(as_written.after, as_same.after)
        orders[first.config.hook_name] = expected
    reverse = sk.steered(llama, [sk.scale(one, {3: 3.0}), sk.clamp(two, {3: 4.0}), sk.clamp(one, {5: 1.0})])
    assert not torch.allclose(reverse.forward(tokens)[0], orders[HOOK], atol=1e-4)


def test_a_crosscoder_does_not_read_one_point_by_two_names(llama: Any) -> None:
    corpus, both = sk.load_corpus(TEXTS), (HOOK, ALIAS)
    training = sk.TrainConfig(n_tokens=64, batch_size=16, context_size=16)
    with pytest.raises(MismatchError, match=r"two names of one hook point[\s\S]*leave blocks.0.hook_out out"):
        sk.train(
            llama, corpus, sae=sk.SAEConfig(d_in=64, d_sae=24, k=2), config=training, hook_name=both, progress=False
        )
    with pytest.raises(MismatchError, match="two names of one hook point"):
        sk.evaluate(llama, sae_at(llama, both), corpus, progress=False)
    apart = sk.train(
        llama, corpus, sae=sk.SAEConfig(d_in=32, d_sae=24, k=2), config=training, hook_name=list(both), progress=False
    )
    assert len(apart) == 2  # two SAEs of one run may
