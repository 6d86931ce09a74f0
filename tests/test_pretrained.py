"""The SAEs that come with saekit: their files are what their cards say, and so are their metrics, measured again."""

from __future__ import annotations

from typing import Any

import pytest

import saekit as sk
from saekit.atomic_io import sha256
from saekit.json_files import read_json
from saekit.sae.formats.packaged import PRETRAINED
from saekit.sae.formats.saelens import WEIGHTS

FAMILY = "smollm2-135m-instruct"
WIDTHS = {"1k": 1024, "4k": 4096, "16k": 16384}
MOST_MB = 60


def card(name: str) -> dict[str, Any]:
    return dict(read_json(PRETRAINED / FAMILY / name / "card.json"))


def test_three_widths_are_listed() -> None:
    listed = sk.list_saes()
    assert sorted(listed.index) == sorted(f"{FAMILY}/{name}" for name in WIDTHS)
    assert listed["d_sae"].to_dict() == {f"{FAMILY}/{name}": width for name, width in WIDTHS.items()}
    assert listed["hook_name"].nunique() == 1
    size = sum(path.stat().st_size for path in PRETRAINED.rglob("*") if path.is_file()) / 1e6
    assert size < MOST_MB


@pytest.mark.parametrize("name", WIDTHS)
def test_weights_are_those_of_the_card(name: str) -> None:
    said, sae = card(name), sk.load_sae(f"{FAMILY}/{name}")
    assert sha256(PRETRAINED / FAMILY / name / WEIGHTS) == said["weights"]["sha256"]
    assert said["name"] == f"{FAMILY}/{name}" and said["fingerprint"] == sae.fingerprint
    assert (sae.config.d_sae, sae.config.hook_name) == (WIDTHS[name], said["hook_name"])
    assert said["weights"]["sha256"] in (PRETRAINED / FAMILY / name / "CARD.md").read_text("utf8")
    assert len(said["features"]) == len({row["feature"] for row in said["features"]}) == 20
    assert all(row["contexts"] for row in said["features"][:10])


@pytest.mark.real
def test_a_cards_metrics_can_be_measured_again(default_model: Any) -> None:
    saes = [sk.load_sae(f"{FAMILY}/{name}") for name in WIDTHS]
    text = sk.load_corpus("demo").where(part="held_out")
    found = sk.evaluate(default_model, saes, text, n_tokens=1_500, length=256, progress=False)
    for name, measured in zip(WIDTHS, found, strict=True):
        said = card(name)["metrics"]["demo_held_out"]
        assert measured.explained_variance == pytest.approx(said["explained_variance"], abs=0.015), name
        assert measured.ce_loss_recovered == pytest.approx(said["ce_loss_recovered"], abs=0.005), name
        assert measured.l0 == pytest.approx(said["l0"], rel=0.1), name


def test_what_the_card_claims_is_what_was_asked() -> None:
    wanted = {"16k": (0.82, 0.97, 0.76, 0.965, 0.02), "4k": (0.78, 0.955, 0.72, 0.95, 0.01)}
    for name, (held, held_ce, other, other_ce, dead) in wanted.items():
        said = card(name)
        metrics = said["metrics"]
        assert metrics["held_out"]["explained_variance"] >= held, name
        assert metrics["held_out"]["ce_loss_recovered"] >= held_ce, name
        assert metrics["other"]["explained_variance"] >= other, name
        assert metrics["other"]["ce_loss_recovered"] >= other_ce, name
        assert 0.9 * 32 <= metrics["held_out"]["l0"] <= 1.1 * 32, name
        assert said["training"]["dead_features"] <= dead * said["d_sae"], name
