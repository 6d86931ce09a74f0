"""The SAEs that come with saekit: their files are what their cards say, and so are their metrics, measured again."""

from __future__ import annotations

from pathlib import Path
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


@pytest.mark.parametrize("name", WIDTHS)
def test_every_interval_of_a_card_says_how_many_documents_it_is_over(name: str) -> None:
    said = card(name)
    rows = [row for row in said["concepts"].values() if row["feature"] is not None] + said["features"]
    assert len(said["concepts"]) == 20 and said["evidence"]["n_measured"] == len(rows) - 20
    for row in rows:
        for measure in ("auroc", "average_precision", "top_precision", "precision", "recall"):
            value, low, high, n = (row[f"{measure}{end}"] for end in ("", "_low", "_high", "_n"))
            assert (low is None) == (high is None)
            if low is not None:
                assert n >= 5 and low <= value <= high, (row["feature"], measure)
        assert row["n_positive_documents"] >= row["auroc_n"] and row["n_permutations"] == 200
    reached = [row for row in said["concepts"].values() if row.get("reached")]
    assert len(reached) == said["evidence"]["n_reached"]
    assert all(row["documents"] == "report" and row["n_positive_documents"] >= 5 for row in reached)


def results(title: str) -> str:
    text = (Path(__file__).parents[1] / "benchmarks" / "RESULTS.md").read_text("utf8")
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", WIDTHS)
def test_the_results_quote_the_cards(name: str) -> None:
    said, quoted = card(name), results("The default SAEs")
    own = said["metrics"]["demo_held_out"]

    def figure(metrics: dict[str, Any], key: str) -> str:
        ends = metrics["intervals"].get(key)
        return f"{metrics[key]:.3f}" + (f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "")

    cells = [name]
    for text in ("held_out", "other"):
        metrics = said["metrics"][text]
        cells += [
            *(figure(metrics, key) for key in ("explained_variance", "ce_loss_recovered")),
            f"{metrics['l0']:.1f}",
        ]
    evidence = said["evidence"]
    cells += [f"{said['training']['dead_features']:.0f}", f"{evidence['n_reached']} of {evidence['n_measured']}"]
    assert f"| {' | '.join(cells)} |" in quoted
    cells = [name, figure(own, "explained_variance"), f"{own['l0']:.1f}"]
    cells += [figure(own, key) for key in ("ce_loss_recovered", "ce_loss_recovered_everywhere")]
    cells += [
        " / ".join(f"{own[key]:.3f}" for key in ("ce_sae", "ce_sae_everywhere", "ce_zero")),
        f"{own['n_silent']:,}",
    ]
    assert f"| {' | '.join(cells)} |" in quoted


def test_the_results_quote_the_cards_steering() -> None:
    said = card("16k")["golden_gate"]["3722"]["counts"]
    n, hits = (int(said["feature"][key]) for key in ("n", "bridge"))
    assert f"{hits} of {n} answers mention a bridge" in results("The default SAEs")
    assert f"{hits} of {n} mention a bridge" in (PRETRAINED / FAMILY / "16k" / "CARD.md").read_text("utf8")
