"""Several hook points in one run of the model: columns, token filters of their own, batches and caches."""

from __future__ import annotations

import json

import pytest
import torch

import saekit as sk
from conftest import HOOK, tiny_model, tiny_texts
from saekit.activations import kept_activations
from saekit.activations.forward import WindowsForward
from saekit.errors import DataError, MismatchError
from saekit.models import LanguageModel

A, B, C = "embed.hook_out", HOOK, "blocks.1.mlp.hook_post"  # 32, 32 and 64 wide
LENGTH = 16


@pytest.fixture(scope="module")
def windows(model):
    return sk.tokenize(sk.load_corpus(tiny_texts()), model, length=LENGTH)


@pytest.fixture
def runs(monkeypatch):
    """One entry for each run of the model: the hook points it was run for."""
    seen = []
    real = LanguageModel._run

    def counted(self, tokens, hooks, **kwargs):
        seen.append(tuple(name for name, _ in hooks))
        return real(self, tokens, hooks, **kwargs)

    monkeypatch.setattr(LanguageModel, "_run", counted)
    return seen


def strict_filter(model, windows):
    """A token filter that leaves tokens out at A, others at B, and none at C."""
    limits = []
    for hook, fraction in ((A, 0.9), (B, 0.8)):
        _, x = kept_activations(model, windows, torch.arange(len(windows)), hook, sk.TokenFilter())
        limits.append(float(x.norm(dim=1).quantile(fraction)))
    return sk.TokenFilter(special_ids=(model.bos_id,), blocks=((32, limits[0]), (32, limits[1]), (64, None)))


def test_a_token_is_kept_where_the_token_filter_of_every_hook_point_keeps_it(model, windows):
    rows, token_filter = torch.arange(len(windows)), strict_filter(model, windows)
    alone = {}
    for hook, one in zip((A, B, C), token_filter.split([32, 32, 64]), strict=True):
        position, x = kept_activations(model, windows, rows, hook, one)
        alone[hook] = dict(zip(position.tolist(), x, strict=True))
    position, x = kept_activations(model, windows, rows, (A, B, C), token_filter)
    everywhere = set(alone[A]) & set(alone[B]) & set(alone[C])
    assert set(position.tolist()) == everywhere
    assert (
        len(everywhere) < min(len(alone[A]), len(alone[B])) < len(alone[C])
    )  # each token filter leaves out some of its own
    for p, row in zip(position.tolist(), x, strict=True):
        assert torch.equal(row, torch.cat([alone[hook][p] for hook in (A, B, C)]))


def test_activations_go_where_they_are_wanted(model, windows):
    rows, token_filter = torch.arange(8), strict_filter(model, windows)
    want = kept_activations(model, windows, rows, (A, B, C), token_filter)
    room = torch.full((200, 128), 7.0)
    position, x = WindowsForward(model, windows, rows, (A, B, C), token_filter).kept(into=room[10:])
    assert torch.equal(x, want[1]) and torch.equal(position, want[0])
    assert x.data_ptr() == room[10:].data_ptr() and bool((room[:10] == 7).all() and (room[10 + len(x) :] == 7).all())


def test_every_hook_point_has_the_token_filter_it_would_have_alone(model, windows):
    together = sk.fit_token_filter(model, windows, (A, B, C))
    assert together.split([32, 32, 64]) == [sk.fit_token_filter(model, windows, hook) for hook in (A, B, C)]
    assert [width for width, _ in together.blocks] == [32, 32, 64] and together.max_norm is None
    assert sk.TokenFilter.from_dict(json.loads(json.dumps(together.to_dict()))) == together
    assert "at any of 3 hook points" in together.describe()


def test_batches_of_several_hook_points_run_the_model_once(model, windows, runs):
    model.hook_width((A, B, C))
    token_filter = strict_filter(model, windows)
    runs.clear()
    one_each = token_filter.split([32, 32, 64])
    turned = sk.TokenFilter.joined([one_each[0], one_each[2], one_each[1]], [32, 64, 32])
    batches = sk.activation_batches(
        model, windows, (A, C, B), batch_size=32, buffer_tokens=64, n_epochs=1, token_filter=turned
    )
    got = torch.cat(list(batches))
    assert len(runs) == -(-len(windows) // 32) and set(runs) == {(A, C, B)}
    assert batches.d_in == got.shape[1] == 128 and batches.hook_name == (A, C, B)
    assert batches.token_filters == dict(zip((A, B, C), token_filter.split([32, 32, 64]), strict=True))
    assert batches.token_filter_at(B) == batches.token_filters[B]
    assert batches.token_filter_at((B, A)).blocks == (token_filter.blocks[1], token_filter.blocks[0])
    _, x = kept_activations(model, windows, torch.arange(len(windows)), (A, B, C), token_filter)
    found = torch.cdist(got[:, batches.columns((A, B, C))].double(), x.double()).argmin(1)
    assert len(got) == len(x) // 32 * 32
    for hook, there in ((A, slice(0, 32)), (B, slice(32, 64)), (C, slice(64, 128)), ((B, C), slice(32, 128))):
        torch.testing.assert_close(got[:, batches.columns(hook)], x[found][:, there], rtol=1e-5, atol=1e-5)
    assert batches.columns((A, C)) == slice(0, 96) and isinstance(batches.columns((B, A)), torch.Tensor)
    with pytest.raises(
        MismatchError, match=r"of another hook point\n.*blocks.1.hook_in\n.*embed.hook_out, blocks.1.mlp"
    ):
        batches.columns("blocks.1.hook_in")


def test_a_token_filter_without_blocks_holds_at_every_hook_point(model, windows):
    token_filter = sk.TokenFilter(special_ids=(0,), max_norm=1e9)
    batches = sk.activation_batches(model, windows, (A, B), batch_size=32, token_filter=token_filter)
    assert batches.token_filters == {A: token_filter, B: token_filter} and batches.token_filter.blocks == (
        (32, 1e9),
        (32, 1e9),
    )
    other = sk.TokenFilter(blocks=((32, 1.0), (64, 2.0)))
    with pytest.raises(MismatchError, match=r"the token filter is for other hook points\n.*\[32, 64\]\n.*\[32, 32\]"):
        sk.activation_batches(model, windows, (A, B), batch_size=32, token_filter=other)
    with pytest.raises(MismatchError, match="the token filter is for other hook points"):
        sk.activation_batches(model, windows, A, batch_size=32, token_filter=other)


def test_a_token_filter_checks_the_first_hook_points_alone_too():
    token_filter = sk.TokenFilter(blocks=((2, 1.0), (3, 2.0)))
    tokens, x = torch.tensor([5, 6, 7]), torch.tensor([[0.5, 0, 9, 9, 9], [0.5, 0, 1, 1, 1], [2, 0, 0, 0, 0.0]])
    assert token_filter.keep(tokens, x).tolist() == [False, True, False]
    assert token_filter.keep(tokens, x[:, :2]).tolist() == [True, True, False]
    for width in (1, 3, 4):
        with pytest.raises(MismatchError, match=rf"activations of another width\n.*{width}\n.*2 \+ 3"):
            token_filter.keep(tokens, x[:, :width])
    with pytest.raises(MismatchError, match=r"another width\n.*7"):
        token_filter.keep(tokens, torch.zeros(3, 7))


@pytest.mark.parametrize("stop", [0, 3, 9])
def test_batches_of_several_hook_points_resume_bit_for_bit(model, windows, stop):
    def fresh():
        return sk.activation_batches(model, windows, (A, C), batch_size=50, buffer_tokens=100, n_epochs=2)

    whole, before, after = list(fresh()), fresh(), fresh()
    for _ in range(stop):
        next(before)
    state = before.state_dict()
    assert json.dumps(state["identity"])  # plain values, as all that is saved
    after.load_state_dict(state)
    rest = list(after)
    assert len(rest) == len(whole) - stop > 0 and all(map(torch.equal, rest, whole[stop:]))
    with pytest.raises(MismatchError, match="hook_name differs"):
        sk.activation_batches(model, windows, (C, A), batch_size=50, buffer_tokens=100).load_state_dict(state)


def test_one_hook_point_is_stored_as_before(model, windows, tmp_path):
    state = sk.activation_batches(model, windows, B, batch_size=50, buffer_tokens=100).state_dict()
    assert state["identity"]["hook_name"] == B and set(state["identity"]["token_filter"]) == {"special_ids", "max_norm"}
    sk.cache_activations(model, windows, B, tmp_path, progress=False)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["hook_name"] == B and "widths" not in manifest
    assert set(manifest["token_filter"]) == {"special_ids", "max_norm"}


def test_a_cache_of_several_hook_points_gives_the_part_of_any_of_them(model, windows, tmp_path, runs):
    model.hook_width((A, B, C))
    token_filter = strict_filter(model, windows)
    runs.clear()
    cache = sk.cache_activations(model, windows, (A, B, C), tmp_path / "abc", token_filter=token_filter, progress=False)
    assert set(runs) == {(A, B, C)}
    _, x = kept_activations(model, windows, torch.arange(len(windows)), (A, B, C), token_filter)
    torch.testing.assert_close(cache.x(slice(None)), x, rtol=1e-5, atol=1e-5)
    whole = cache.x(slice(None))
    back = sk.open_activations(tmp_path / "abc")
    assert (back.hook_name, back.widths, back.token_filter, back.d_in) == ((A, B, C), (32, 32, 64), token_filter, 128)
    back.check(model, (A, B, C))
    for hook, there in ((A, slice(0, 32)), (B, slice(32, 64)), (C, slice(64, 128)), ((A, B), slice(0, 64))):
        part = back.at(hook)
        assert torch.equal(part.x(slice(None)), whole[:, there]) and torch.equal(part.x([5, 2]), whole[[5, 2], there])
        assert (part.d_in, part.n_tokens, part.hook_name) == (there.stop - there.start, cache.n_tokens, hook)
        assert torch.equal(part.position, cache.position) and part.token_filter == cache.token_filter_at(hook)
        part.check(model, hook)
    assert torch.equal(back.at((C, A)).x(slice(9)), torch.cat([whole[:9, 64:], whole[:9, :32]], 1))
    assert back.at((A, B)).at(B).x([3]).tolist() == whole[[3], 32:64].tolist() and back.at((A, B, C)) is back
    assert len({back.digest, back.at(A).digest, back.at(B).digest, back.at((A, B)).digest}) == 4
    assert f"32 of 128 columns: {B}" in repr(back.at(B)) and f"at {A}, {B}, {C} of" in repr(back)
    assert torch.equal(next(back.at(B).batches(40, seed=1)), next(back.batches(40, seed=1))[:, 32:64])
    with pytest.raises(MismatchError, match=r"of another hook point\n.*blocks.1.hook_in"):
        back.at((A, "blocks.1.hook_in"))
    with pytest.raises(MismatchError, match="are of another hook point"):
        back.check(model, B)
    with pytest.raises(MismatchError, match="differ in hook name"):
        sk.cache_activations(model, windows, (A, C, B), tmp_path / "abc", progress=False)
    with pytest.raises(MismatchError, match="chosen by another token filter"):
        sk.cache_activations(model, windows, (A, B, C), tmp_path / "abc", token_filter=sk.TokenFilter(), progress=False)


def test_parts_by_document_and_by_hook_point_go_together(model, windows, tmp_path):
    cache = sk.cache_activations(model, windows, (A, B), tmp_path, progress=False)
    one, other = cache.split(0.4)[1].at(B), cache.at(B).split(0.4)[1]
    assert torch.equal(one.x(slice(None)), other.x(slice(None))) and torch.equal(one.position, other.position)
    assert (
        one.n_tokens == other.n_tokens < cache.n_tokens
        and one.token_filter == other.token_filter == cache.token_filters[B]
    )


def test_an_activation_that_is_not_finite_is_located_at_its_hook_point(windows):
    model = tiny_model()
    with torch.no_grad():
        next(p for n, p in model.bridge.named_parameters() if n.startswith("layers.1.") and "fc_in" in n)[3] = torch.nan
    with pytest.raises(DataError, match=rf"the activations at {C} are not finite in window 0, document 0, position 0"):
        kept_activations(model, windows, torch.arange(4), (A, B, C), sk.TokenFilter())
