"""When an edit applies, and edits along directions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

import saekit as sk
from saekit.errors import ConfigError, DataError, MismatchError, UnknownNameError
from saekit.steering.edit_hooks import apply_edits

HOOK = "blocks.0.hook_resid_post"


def make_sae(activation: str, hook_name: str = HOOK) -> Any:
    k = 5 if activation == "topk" else None
    every = sk.TokenFilter()
    config = sk.SAEConfig(
        d_in=32, d_sae=64, activation=activation, k=k, hook_name=hook_name, token_filter=every, seed=4
    )
    sae = sk.SAE(config)
    with torch.no_grad():
        sae.W_enc.copy_(0.3 * torch.randn(32, 64, generator=torch.Generator().manual_seed(0)))
        sae.W_dec.copy_(torch.nn.functional.normalize(sae.W_dec, dim=1))
    return sae.eval()


def activation_and_tokens() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(3, 6, 32, generator=g), torch.randint(4, 100, (3, 6), generator=g)


def test_where_picks_tokens_by_what_a_feature_does_before_any_edit() -> None:
    sae = make_sae("topk")
    x, tokens = activation_and_tokens()
    acts = sae.encode(x)
    feature = int((acts > 0).float().mean((0, 1)).argmax())
    above = float(acts[..., feature].detach().max()) / 2
    held = acts[..., feature] > above
    assert 0 < held.sum() < held.numel()
    silence = sk.ablate(sae, feature)
    for where, wanted in (
        (sk.Where.fires(sae, feature, above=above), held),
        (~sk.Where.fires(sae, feature, above=above), ~held),
    ):
        edit = sk.add(sae, {3: 5.0}, where=where)
        alone = apply_edits(x, [edit], tokens) - x
        assert torch.equal((alone != 0).any(-1), wanted)
        after = apply_edits(x, [silence, edit], tokens) - apply_edits(x, [silence], tokens)
        assert torch.equal(after.abs().amax(-1) > 1e-3, wanted), "what an earlier edit did has no say"


def test_where_picks_tokens_by_their_text_and_all_conditions_must_hold(model: Any) -> None:
    sae = make_sae("relu")
    x, _ = activation_and_tokens()
    where = sk.Where.token(model, "[a-c]")
    strings = model.vocabulary.shown[: len(model.tokenizer)]
    assert {strings[i].strip() for i in where.ids} == set("abcABC")
    assert set(sk.Where.token(model, "A").ids) == set(sk.Where.token(model, "a").ids)
    assert "A" not in {strings[i].strip() for i in sk.Where.token(model, "a", ignore_case=False).ids}
    known_and_beyond = torch.arange(len(strings) + 9)[None]
    assert where.mask(known_and_beyond, x)[0].nonzero()[:, 0].tolist() == list(where.ids)
    assert torch.equal((~where).mask(known_and_beyond, x), ~where.mask(known_and_beyond, x))
    other = next(i for i in range(10, 100) if i not in where.ids)
    tokens = torch.tensor([[where.ids[0], other] * 3] * 3)
    changed = (apply_edits(x, [sk.add(sae, {3: 1.0}, where=where)], tokens) != x).any(-1)
    assert torch.equal(changed, tokens == where.ids[0])
    both = sk.add(sae, {3: 1.0}, where=[where, ~where])
    assert torch.equal(apply_edits(x, [both], tokens), x)


@pytest.mark.parametrize("between", [False, True])
def test_a_schedule_is_numpys_interpolation_or_the_last_point_passed(between: bool) -> None:
    points = {2: 0.25, 5: 1.0, 9: -0.5}
    schedule = sk.Schedule.linear(points) if between else sk.Schedule.steps(points)
    step = torch.arange(-3, 14)
    at = np.maximum(step.numpy(), 0)
    wanted = np.interp(at, [2, 5, 9], [0.25, 1.0, -0.5])
    if not between:
        wanted = np.select([at >= 9, at >= 5], [-0.5, 1.0], 0.25)
    np.testing.assert_allclose(schedule.factor(step).numpy(), wanted, rtol=1e-6)
    np.testing.assert_allclose(schedule.factor(step[None, :, None]).numpy()[0, :, 0], wanted, rtol=1e-6)


def test_a_scheduled_edit_makes_its_share_of_the_change() -> None:
    sae = make_sae("topk")
    x, tokens = activation_and_tokens()
    step = (torch.arange(6) - 2).expand_as(tokens)
    full = apply_edits(x, [sk.clamp(sae, {3: 4.0})], tokens) - x
    schedule = sk.Schedule.linear({0: 1, 2: 0})
    part = apply_edits(x, [sk.clamp(sae, {3: 4.0}, schedule=schedule)], tokens, step=step) - x
    fraction = torch.tensor([1, 1, 1, 0.5, 0, 0])[None, :, None]
    torch.testing.assert_close(part, fraction * full, atol=1e-5, rtol=0)
    assert torch.equal(apply_edits(x, [sk.clamp(sae, {3: 4.0}, schedule=schedule)], tokens), x + full), "a prompt alone"


def test_projecting_out_leaves_nothing_along_the_directions_and_all_else() -> None:
    x, tokens = activation_and_tokens()
    rows = torch.randn(3, 32, generator=torch.Generator().manual_seed(2)) * torch.tensor([[1.0], [50.0], [0.01]])
    rows = torch.cat([rows, rows[:1] - rows[1:2]])  # one more that is in their span
    edit = sk.project_out(sk.Direction(rows, hook_name=HOOK, token_filter=sk.TokenFilter()))
    out = apply_edits(x, [edit], tokens)
    unit = torch.nn.functional.normalize(rows, dim=1)
    assert (out @ unit.T).abs().max() < 1e-5
    change = (out - x).reshape(-1, 32)
    assert torch.linalg.matrix_rank(change, tol=1e-4) == 3
    torch.testing.assert_close(apply_edits(out, [edit], tokens), out, atol=1e-5, rtol=0)


def test_adding_a_feature_is_adding_its_direction() -> None:
    sae = make_sae("relu")
    x, tokens = activation_and_tokens()
    direction = sk.Direction(7 * sae.W_dec[3], hook_name=HOOK, name="gates", token_filter=sae.config.token_filter)
    for unit in ("norm", "raw"):
        by_feature = apply_edits(x, [sk.add(sae, {3: 0.4}, unit=unit)], tokens)
        by_direction = apply_edits(x, [sk.add_direction(direction, 0.4, unit=unit)], tokens)
        torch.testing.assert_close(by_direction, by_feature, atol=1e-5, rtol=0)


def test_directions_survive_json_and_read_as_sentences() -> None:
    sae = make_sae("relu")
    one = sk.Direction(sae.W_dec[3], hook_name=HOOK, name="gates", token_filter=sae.config.token_filter)
    two = sk.Direction(sae.W_dec[:2], hook_name=HOOK, name="doors")
    where, schedule = sk.Where.fires(sae, 2), sk.Schedule.steps({0: 1, 4: 0})
    edits = [sk.add_direction(one, 0.4), sk.project_out(two, positions="generated", where=where, schedule=schedule)]
    for edit in edits:
        assert sk.Edit.from_dict(json.loads(json.dumps(edit.to_dict())), sae) == edit
    with pytest.raises(MismatchError, match="the edit was made for another SAE"):
        sk.Edit.from_dict(edits[1].to_dict(), [])
    assert edits[0] != sk.add_direction(sk.Direction(sae.W_dec[4], hook_name=HOOK, name="gates"), 0.4)
    assert repr(edits[0]) == "add 0.4 x the residual norm along 'gates' at blocks.0.hook_resid_post, at all positions"
    assert repr(edits[1]) == (
        "project out 'doors' at blocks.0.hook_resid_post, at generated positions, where feature 2 is above 0, in full, "
        "from new token 4 not at all"
    )
    assert repr(sk.Schedule.linear({0: 2, 4: 0.5})) == "2 times, falling to 0.5 times at new token 4"


def test_misuse_is_refused(model: Any) -> None:
    sae = make_sae("relu")
    elsewhere = make_sae("relu", hook_name="blocks.1.hook_resid_post")
    with pytest.raises(MismatchError, match="where= reads another hook point"):
        sk.clamp(sae, {1: 1.0}, where=sk.Where.fires(elsewhere, 2))
    with pytest.raises(UnknownNameError, match="the SAE has no feature 64"):
        sk.Where.fires(sae, 64)
    with pytest.raises(ConfigError, match="not a regular expression"):
        sk.Where.token(model, "(")
    with pytest.raises(DataError, match="no token of the model reads like this"):
        sk.Where.token(model, "antidisestablishmentarianism")
    with pytest.raises(ConfigError, match="numbers of new tokens, ascending"):
        sk.Schedule.steps({})
    with pytest.raises(ConfigError, match="factors are finite"):
        sk.Schedule.steps({0: float("nan")})
    with pytest.raises(ConfigError, match="not a schedule"):
        sk.clamp(sae, {1: 1.0}, schedule={0: 1})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="not a direction"):
        sk.Direction(torch.zeros(32), hook_name=HOOK)
    with pytest.raises(ConfigError, match="needs its hook point"):
        sk.Direction(torch.ones(32))
    with pytest.raises(ConfigError, match="one direction is added at a time"):
        sk.add_direction(sk.Direction(torch.ones(2, 32), hook_name=HOOK), 1.0)
    with pytest.raises(UnknownNameError, match="unknown unit 'max'"):
        sk.add_direction(sk.Direction(torch.ones(32), hook_name=HOOK), 1.0, unit="max")
    with pytest.raises(MismatchError, match="the direction does not fit the hook point"):
        sk.generate(model, "a", edits=sk.add_direction(sk.Direction(torch.ones(7), hook_name=HOOK), 1.0))
