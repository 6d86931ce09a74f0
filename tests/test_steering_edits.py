"""Edits against "encode, change, decode, put the error back", token by token."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

import saekit as sk
from saekit.errors import ConfigError, MismatchError, UnknownNameError
from saekit.steering.edit_hooks import apply_edits
from saekit.steering.edits import EDITS, register_edit

HOOK = "blocks.0.hook_resid_post"
ACTIVATIONS = ["relu", "topk", "batchtopk", "jumprelu"]
BOS, PAD = 0, 2


def make_sae(activation: str = "topk", *, d_in: int = 32, d_sae: int = 64, seed: int = 0, **config: Any) -> Any:
    """A random SAE whose every parameter differs from its default, decoder rows of unit norm."""
    token_filter = sk.TokenFilter(special_ids=(0, 1, 2, 3), max_norm=20.0)
    settings = {"hook_name": HOOK, "token_filter": token_filter} | config
    k = None if activation in ("relu", "jumprelu") else 5
    sae = sk.SAE(sk.SAEConfig(d_in=d_in, d_sae=d_sae, activation=activation, k=k, **settings))
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn(sae.W_enc.shape, generator=g) * 0.3)
        sae.W_dec.copy_(torch.nn.functional.normalize(torch.randn(sae.W_dec.shape, generator=g), dim=1))
        sae.b_enc.copy_(torch.randn(d_sae, generator=g) * 0.1)
        sae.b_dec.copy_(torch.randn(d_in, generator=g) * 0.1)
        if activation in ("batchtopk", "jumprelu"):
            sae.threshold.copy_(torch.rand(d_sae, generator=g))
    return sae.eval()


def reference(x: Tensor, edit: sk.Edit) -> Tensor:
    """One token's activation [d_in] after the edit, by way of the reconstruction and its error."""
    sae = edit.sae
    with torch.no_grad():
        acts = sae.encode(x[None])[0]
        error = x - sae.decode(acts[None])[0]
        changed = acts.clone()
        for n, (i, value) in enumerate(zip(edit.features, edit.values, strict=True)):
            if edit.unit == "max":
                value = value * edit.maxima[n]
            if edit.unit == "norm":
                value = value * float(x.norm())
            if edit.kind == "clamp":
                changed[i] = value
            elif edit.kind == "scale":
                changed[i] = value * acts[i]
            elif edit.kind == "ablate":
                changed[i] = 0
            elif edit.kind == "cap":
                changed[i] = min(float(acts[i]), value)
            else:
                changed[i] = acts[i] + value
        return sae.decode(changed[None])[0] + error


def fake_index(sae: Any, maxima: dict[int, float]) -> Any:
    column = pd.Series({i: maxima.get(i, 0.0) for i in range(sae.config.d_sae)}, name="max")
    return SimpleNamespace(sae_fingerprint=sae.fingerprint, features=column.to_frame())


def activation_and_tokens(seed: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(3, 6, 32, generator=g), torch.randint(4, 100, (3, 6), generator=g)


def active_feature(sae: Any, x: Tensor) -> int:
    """A feature that fires on some tokens and not on others."""
    fraction = (sae.encode(x) > 0).float().mean((0, 1))
    return int((fraction - 0.4).abs().argmin())


def edits_of_every_kind(sae: Any, features: list[int]) -> list[sk.Edit]:
    index = fake_index(sae, {i: 3.0 + i for i in range(sae.config.d_sae)})
    a, b = features
    return [
        sk.clamp(sae, {a: 4.0, b: 0.5}),
        sk.clamp(sae, {b: -0.4}, unit="norm"),
        sk.clamp(sae, {a: 0.7, b: 1.5}, unit="max", index=index),
        sk.scale(sae, {a: 3.0, b: 0.0}),
        sk.ablate(sae, [a, b]),
        sk.add(sae, {a: 2.0, b: -1.0}),
        sk.add(sae, {b: 0.5}, unit="norm"),
        sk.add(sae, {a: 2.0}, unit="max", index=index),
        sk.cap(sae, {a: 0.2, b: 0.1}),
        sk.cap(sae, {a: 0.02}, unit="norm"),
    ]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_edit_is_encode_change_decode_and_the_error_put_back(activation: str) -> None:
    sae = make_sae(activation)
    x, tokens = activation_and_tokens()
    a = active_feature(sae, x)
    for edit in edits_of_every_kind(sae, [a, (a + 7) % 64]):
        expected = torch.stack([torch.stack([reference(token, edit) for token in row]) for row in x])
        found = apply_edits(x, [edit], tokens)
        assert not torch.equal(found, x), edit
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0, msg=lambda m, e=edit: f"{e}: {m}")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_features_are_encoded_as_the_whole_dictionary_encodes_them(activation: str) -> None:
    sae = make_sae(activation)
    x, _ = activation_and_tokens()
    features = (5, 0, 63, 17)
    full = sae.encode(x.view(-1, 32))
    assert (full[:, list(features)] > 0).any()
    torch.testing.assert_close(
        sae.encode_features(x.view(-1, 32), features), full[:, list(features)], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("activation", ["relu", "batchtopk", "jumprelu"])
def test_only_the_needed_columns_are_encoded_when_the_architecture_allows(activation: str, monkeypatch: Any) -> None:
    sae = make_sae(activation)
    x, tokens = activation_and_tokens()
    before = apply_edits(x, [sk.clamp(sae, {3: 1.0})], tokens)
    with torch.no_grad():
        sae.W_enc[:, torch.arange(64) != 3] = torch.nan
    assert torch.equal(apply_edits(x, [sk.clamp(sae, {3: 1.0})], tokens), before)


def test_edits_compose_in_order_each_reading_what_the_one_before_it_left() -> None:
    sae, other = make_sae("topk"), make_sae("relu", seed=5)
    x, tokens = activation_and_tokens()
    a = active_feature(sae, x)
    edits = [sk.scale(sae, {a: 3.0}), sk.clamp(other, {2: 4.0}), sk.add(sae, {a: 1.0}), sk.scale(sae, {a: 0.5})]
    expected = x
    for edit in edits:
        expected = torch.stack([torch.stack([reference(token, edit) for token in row]) for row in expected])
    torch.testing.assert_close(apply_edits(x, edits, tokens), expected, atol=1e-5, rtol=0)
    swapped = apply_edits(x, edits[::-1], tokens)
    assert (swapped - expected).abs().max() > 0.1


def test_norm_and_sinks_are_those_of_the_token_as_it_arrived() -> None:
    sae = make_sae("relu")
    x, tokens = activation_and_tokens()
    huge = sk.add(sae, {1: 1000.0})
    then = sk.add(sae, {2: 0.5}, unit="norm")
    expected = x + 1000 * sae.W_dec[1] + 0.5 * x.norm(dim=-1, keepdim=True) * sae.W_dec[2]
    torch.testing.assert_close(apply_edits(x, [huge, then], tokens), expected.detach(), atol=1e-3, rtol=0)


def test_special_tokens_sinks_and_padding_are_left_alone() -> None:
    sae = make_sae("relu")
    x, tokens = activation_and_tokens()
    tokens[0, 0], tokens[1, 3] = BOS, 3
    x[2, 1] *= 100  # a sink: its norm is above the token filter's
    attended = torch.ones_like(tokens, dtype=torch.bool)
    attended[1, :2] = False
    left = torch.zeros_like(attended)
    left[0, 0] = left[1, 3] = left[2, 1] = left[1, 0] = left[1, 1] = True
    for edit in edits_of_every_kind(sae, [3, 4]):
        if edit.kind in ("clamp", "add"):
            changed = (apply_edits(x, [edit], tokens, attended=attended) != x).any(-1)
            assert torch.equal(changed, ~left), edit


def test_without_a_token_filter_the_callers_decides_and_one_is_needed() -> None:
    sae = make_sae("relu", token_filter=None)
    x, tokens = activation_and_tokens()
    tokens[0, 0] = BOS
    edit = sk.add(sae, {1: 1.0})
    with pytest.raises(ConfigError, match="which tokens are special or sinks is not known"):
        apply_edits(x, [edit], tokens)
    assert (apply_edits(x, [edit], tokens, token_filter=sk.TokenFilter()) != x).any(-1).all()
    changed = (apply_edits(x, [edit], tokens, token_filter=sk.TokenFilter(special_ids=(BOS,))) != x).any(-1)
    assert not changed[0, 0] and changed.sum() == changed.numel() - 1


@pytest.mark.parametrize("positions", ["all", "prompt", "generated"])
def test_positions(positions: str) -> None:
    sae = make_sae("relu")
    x, tokens = activation_and_tokens()
    step = (torch.arange(6) - 4).expand_as(tokens)
    generated = step >= 0
    edit = sk.add(sae, {1: 1.0}, positions=positions)
    changed = (apply_edits(x, [edit], tokens, step=step) != x).any(-1)
    wanted = {"all": torch.ones_like(generated), "prompt": ~generated, "generated": generated}[positions]
    assert torch.equal(changed, wanted)


def test_nothing_is_changed_in_place() -> None:
    sae = make_sae("topk")
    x, tokens = activation_and_tokens()
    kept, weights = x.clone(), {k: v.clone() for k, v in sae.state_dict().items()}
    apply_edits(x, edits_of_every_kind(sae, [3, 4]), tokens)
    assert torch.equal(x, kept)
    assert all(torch.equal(v, weights[k]) for k, v in sae.state_dict().items())


def test_activations_by_head_and_in_half_precision() -> None:
    sae = make_sae("relu")
    x, tokens = activation_and_tokens()
    edit = sk.clamp(sae, {3: 2.0})
    flat = apply_edits(x, [edit], tokens)
    assert torch.equal(apply_edits(x.view(3, 6, 4, 8), [edit], tokens), flat.view(3, 6, 4, 8))
    half = apply_edits(x.bfloat16(), [edit], tokens)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), flat, atol=0.06, rtol=0.02)


def test_clamping_to_the_present_activation_changes_nothing() -> None:
    sae = make_sae("topk")
    x, tokens = activation_and_tokens()
    a = active_feature(sae, x)
    token = x[:1, :1]
    now = sae.encode(token)[0, 0, a].item()
    torch.testing.assert_close(apply_edits(token, [sk.clamp(sae, {a: now})], tokens[:1, :1]), token, atol=1e-6, rtol=0)


def test_an_edit_survives_json() -> None:
    sae = make_sae("relu")
    where = [~sk.Where.fires(sae, 7, above=0.5), sk.Where(pattern="a|b", ids=(4, 5))]
    schedule = sk.Schedule.linear({0: 0.5, 7: 2.0})
    for edit in [
        *edits_of_every_kind(sae, [3, 4]),
        sk.clamp(sae, {3: 1.0}, where=where, schedule=schedule, positions="prompt"),
    ]:
        saved = json.loads(json.dumps(edit.to_dict()))
        assert sk.Edit.from_dict(saved, sae) == edit
        with pytest.raises(MismatchError, match="the edit was made for another SAE"):
            sk.Edit.from_dict(saved, make_sae("relu", seed=9))
    with pytest.raises(UnknownNameError, match="unknown part of an edit 'unitt'"):
        sk.Edit.from_dict(saved | {"unitt": "raw"}, sae)
    with pytest.raises(ConfigError, match="the saved edit has no 'values'"):
        sk.Edit.from_dict({k: v for k, v in saved.items() if k != "values"}, sae)


def test_an_edit_reads_as_a_sentence_and_is_frozen() -> None:
    sae = make_sae("relu")
    index = fake_index(sae, {3: 7.25})
    at = "at blocks.0.hook_resid_post, at"
    assert (
        repr(sk.clamp(sae, {3: 0.5}, unit="norm")) == f"clamp feature 3 to 0.5 x the residual norm {at} all positions"
    )
    assert repr(sk.clamp(sae, {3: 2}, unit="max", index=index, positions="generated")) == (
        f"clamp feature 3 to 2 x its maximum of 7.25 {at} generated positions"
    )
    assert repr(sk.scale(sae, {3: 2, 5: 0, 8: 1})) == f"scale features 3 by 2, 5 by 0 and 8 by 1 {at} all positions"
    assert repr(sk.ablate(sae, [3, 5], positions="prompt")) == f"ablate features 3 and 5 {at} prompt positions"
    assert repr(sk.add(sae, {3: 0.5}, unit="norm")) == f"add 0.5 x the residual norm of feature 3 {at} all positions"
    with pytest.raises(dataclasses.FrozenInstanceError):
        sk.ablate(sae, 3).kind = "add"  # type: ignore[misc]


def test_misuse_is_refused_with_what_was_wrong() -> None:
    sae = make_sae("relu")
    with pytest.raises(UnknownNameError, match=r"the SAE has no feature 64[\s\S]*0 to 63"):
        sk.clamp(sae, {64: 1.0})
    with pytest.raises(UnknownNameError, match="no feature -1"):
        sk.ablate(sae, -1)
    with pytest.raises(UnknownNameError, match=r"the SAE has no feature [\s\S]*a whole number from 0 to 63"):
        sk.clamp(sae, {1.5: 1.0})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="is not a finite number"):
        sk.clamp(sae, {1: float("nan")})
    with pytest.raises(ConfigError, match="clamp needs a value for each feature"):
        sk.clamp(sae, 3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="an edit needs features"):
        sk.ablate(sae, [])
    with pytest.raises(UnknownNameError, match="unknown unit 'nrom'; did you mean 'norm'"):
        sk.clamp(sae, {1: 1.0}, unit="nrom")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="unknown positions 'promt'; did you mean 'prompt'"):
        sk.ablate(sae, 1, positions="promt")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="does not name the hook point"):
        sk.ablate(make_sae("relu", hook_name=None), 1)


def test_unit_max_needs_the_index_of_this_sae_and_a_live_feature() -> None:
    sae = make_sae("relu")
    with pytest.raises(ConfigError, match=r'unit "max" needs the features\' maxima[\s\S]*pass index='):
        sk.clamp(sae, {1: 1.0}, unit="max")
    with pytest.raises(MismatchError, match="the index was built with another SAE"):
        sk.clamp(sae, {1: 1.0}, unit="max", index=fake_index(make_sae("relu", seed=9), {1: 2.0}))
    with pytest.raises(ConfigError, match="feature 2 never fires in the index"):
        sk.clamp(sae, {2: 1.0}, unit="max", index=fake_index(sae, {1: 2.0}))


def test_an_edit_kind_from_outside_is_used_and_saved_like_any_other(
    model: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saekit.steering.edits.EDITS", dict(EDITS))

    @register_edit
    @dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
    class Noise(sk.Edit):
        kind, parts = "noise", ("at", "size", "seed")
        at: str
        size: float
        seed: int = 0
        token_filter = sk.TokenFilter(special_ids=(BOS,))

        @property
        def hook_name(self) -> str:
            return self.at

        def delta(self, x: Tensor, norm: Tensor) -> Tensor:
            return self.size * torch.randn(x.shape[-1], generator=torch.Generator().manual_seed(self.seed)).expand_as(x)

        def check(self, model: Any) -> None:
            model.check_hook(self.at)

        def in_words(self) -> str:
            return f"add noise of size {self.size:g}"

    edit = Noise(at=HOOK, size=3.0, positions="prompt")
    assert repr(edit) == f"add noise of size 3 at {HOOK}, at prompt positions"
    plain = sk.generate(model, "the cat", max_new_tokens=6)
    noisy = sk.generate(model, "the cat", edits=edit, max_new_tokens=6)
    assert noisy.tokens != plain.tokens

    path = sk.steered(model, edit).save(tmp_path / "noisy.json")
    loaded = sk.load_steered(model, path)
    assert loaded.edits == (edit,)
    assert sk.generate(loaded, "the cat", max_new_tokens=6).tokens == noisy.tokens
    with pytest.raises(ConfigError, match="the kind of edit 'clamp' is taken"):
        register_edit(type("Other", (Noise,), {"kind": "clamp"}))
    with pytest.raises(UnknownNameError, match="unknown kind of edit 'noize'; did you mean 'noise'"):
        sk.Edit.from_dict(edit.to_dict() | {"kind": "noize"})


def test_edits_along_a_direction_in_older_files_still_load() -> None:
    direction = sk.Direction(torch.ones(32), hook_name=HOOK, name="ones")
    shared = {"direction": direction.to_dict(), "positions": "all", "where": [], "schedule": None}
    added = {"kind": "add", "value": 0.4, "unit": "norm", **shared}
    removed = {"kind": "project_out", "value": 0.0, "unit": "norm", **shared}
    assert sk.Edit.from_dict(added) == sk.add_direction(direction, 0.4)
    assert sk.Edit.from_dict(removed) == sk.project_out(direction)
