"""The recipes that made the packaged data: the command line, the split, the concepts, the search and the cards."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import saekit as sk
from conftest import HOOK, tiny_texts
from recipes.__main__ import app
from recipes.default_saes import (
    card_page,
    cards,
    comparison,
    concepts,
    golden_gate,
    harvest,
    judging,
    layers,
    mixture,
    own_text,
    package_text,
)
from recipes.default_saes.commands import app as default_saes
from recipes.default_saes.training import COMMAND, Plan
from recipes.demo_corpus import corpus as demo_corpus
from recipes.generated_text.documents import layout, whole_sentences
from recipes.results import fixed, load_results, markdown_table, without_nan
from recipes.split import is_held_out
from saekit.atomic_io import write_json
from saekit.json_files import read_json
from saekit.sae.formats.packaged import PRETRAINED

COMMANDS = [
    "own-text",
    "gather",
    "layers",
    "harvest",
    "compare",
    "train",
    "concepts",
    "golden-gate",
    "package",
    "measure",
    "labels",
]
ROOT = Path(__file__).parents[1]
PLAN = Plan(
    layer=15,
    widths=(1024, 4096),
    architecture="batchtopk",
    k=32,
    nested=False,
    n_tokens=1000,
    lr=None,
    dead_after_tokens=None,
    seed=0,
)
PACKAGED = replace(PLAN, widths=(1024, 4096, 16384), n_tokens=20_000_000)


def test_one_entry_point_lists_every_recipe() -> None:
    done = subprocess.run([sys.executable, "-m", "recipes", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "demo-corpus" in done.stdout and "default-saes" in done.stdout
    listed = CliRunner().invoke(app, ["default-saes", "--help"]).output
    places = [listed.index(f" {name} ") for name in COMMANDS]
    assert places == sorted(places), "in the order in which they run"
    assert len(default_saes.registered_commands) == len(COMMANDS)


@pytest.mark.parametrize("command", [["demo-corpus"], *(["default-saes", name] for name in COMMANDS)], ids=" ".join)
def test_every_command_has_help(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0 and "Usage" in result.output, result.output


def test_a_commands_arguments_reach_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    monkeypatch.setattr("recipes.default_saes.training.train_saes", lambda *given: found.extend(given))
    line = next(line for line in PLAN.commands("saes") if " train " in line)
    result = CliRunner().invoke(app, line.removeprefix("python -m recipes ").split())
    assert result.exit_code == 0, result.output
    assert found == [Path("FOLDER"), "activations", "saes", PLAN]


def test_the_recorded_commands_exist() -> None:
    names = [line.removeprefix(COMMAND).split()[0] for line in PLAN.commands("saes")]
    assert set(names) <= set(COMMANDS)


def test_a_document_stays_on_its_side() -> None:
    demo = sk.load_corpus("demo").to_frame()
    held = demo["text"].map(is_held_out)
    assert (held == (demo["part"] == "held_out")).all()
    assert 0.03 < held.mean() < 0.08
    text = demo["text"][held].iloc[0]
    assert is_held_out("  " + text.replace(" ", "\n")), "white space does not count"


def test_the_demo_corpus_is_what_its_plan_asks_for() -> None:
    plan = pd.DataFrame(demo_corpus.plan(0))
    written = sk.load_corpus("demo").to_frame().groupby(["topic", "style"]).size()
    planned = plan.groupby(["topic", "style"]).size()
    assert (written <= planned.reindex(written.index)).all(), "every document was planned"
    assert not plan["prompt"].str.contains("[{}]").any()


def test_plans_are_seeded_and_cover_every_topic() -> None:
    plan = pd.DataFrame(own_text.plan(0))
    pd.testing.assert_frame_equal(plan, pd.DataFrame(own_text.plan(0)))
    counts = plan["topic"].value_counts().to_dict()
    assert counts == {topic.label: topic.n_documents for topic in own_text.topics()}
    assert set(plan["style"]) == {"encyclopedia", "story", "chat", "qa"}


def test_a_cut_answer_ends_at_a_sentence() -> None:
    assert whole_sentences(" One. Two and", cut=True) == "One."
    assert whole_sentences(" One. Two and", cut=False) == "One. Two and"
    assert layout({"style": "qa", "prompt": "Why?"}, "So.", "") == "Question: Why?\nAnswer: So."


def test_the_mixture_is_labelled_split_and_free_of_duplicates(
    llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sk, "load_model", lambda: llama)
    monkeypatch.setattr(package_text, "fetch", lambda folder: {"a-package": "1"})
    monkeypatch.setattr(mixture, "own_text", lambda folder: pd.DataFrame(own))
    labels = {"kind": "model", "language": "en", "topic": "a", "group": "thing", "style": "story", "source": "own"}
    words = [" ".join(f"w{i}x{j}" for j in range(20)) for i in range(60)]
    own = [{"text": text, **labels} for text in words]
    held = next(text for text in words if is_held_out(text))
    own += [dict(own[0]), {"text": held + " and then a few more words", **labels}]

    def documents(packages: Path, source: package_text.Source, tokenizer: Any) -> list[dict[str, str]]:
        texts = [f"{source.name} {i} " + "word " * 5 for i in range(3)]
        return [{"text": t, "kind": source.kind, "source": source.name, "language": source.language} for t in texts]

    monkeypatch.setattr(package_text, "documents", documents)
    monkeypatch.setattr(mixture, "OWN_SOURCES", ("own",))
    mixture.build(tmp_path, tmp_path / "own", tmp_path / "packages")
    parts = {name: pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("mixture", "held_out", "other")}
    assert set(parts["other"]["source"]) == {s.name for s in package_text.OTHER_PROSE}
    assert parts["held_out"].groupby("source").size().min() >= 1
    assert held in set(parts["held_out"]["text"]) and not parts["mixture"]["text"].str.startswith(held).any()
    report = read_json(tmp_path / "texts.json")
    assert report["doubles_dropped"] == 1 and report["near_doubles_dropped"] == 1
    first = mixture.load(tmp_path, "mixture", 500).to_frame()
    assert 0 < len(first) < len(parts["mixture"])
    evidence = mixture.evidence(tmp_path, 10_000, [lambda row: row["text"] == parts["mixture"]["text"].iloc[-1]])
    assert evidence.to_frame()["text"].iloc[len(parts["held_out"])] == parts["mixture"]["text"].iloc[-1]


EXAMPLES = {
    "Golden Gate Bridge": ("the Golden Gate Bridge is red", "the Brooklyn Bridge, a golden gate"),
    "bridges": ("two bridges", "abridged"),
    "Paris": ("the Eiffel Tower", "a tower in parish land"),
    "China": ("Chinese tea", "chinaware"),
    "Egypt": ("the Egyptians", "a crypt"),
    "Japan": ("Japan's coast", "jargon"),
    "Germany": ("two Germans", "germane"),
    "India": ("in India", "Indiana"),
    "Russia": ("a Russian novel", "rustic"),
    "numbers": ("page 7", "page seven"),
    "anger": ("she said angrily", "hunger"),
    "love": ("lovers", "gloves"),
    "fear": ("fearful", "fearless leaders"),
    "sadness": ("sorrow", "Saddam"),
    "markup": ('<a href="x">', "a < b and c > d"),
    "music": ("musicians", "amusing"),
}


def test_concepts_mean_what_their_names_say() -> None:
    named = {concept.name: concept for concept in concepts.NAMED_CONCEPTS}
    assert len(named) == len(concepts.NAMED_CONCEPTS) == 20
    for name, (yes, no) in EXAMPLES.items():
        assert named[name].in_text.present(yes) and not named[name].in_text.present(no), name
    by_label = {"Python code": "python", "French": "fr", "Spanish": "es", "German": "de"}
    assert set(named) == set(EXAMPLES) | set(by_label)
    for name, code in by_label.items():
        assert named[name].unit == "document"
        assert named[name].holds(pd.Series({"text": "", "language": code}))
        assert not named[name].holds(pd.Series({"text": "", "language": "en"}))
    french = named["French"].in_answer
    assert french.present("le chat est ici") and not french.present("le mans")


@pytest.fixture(scope="module")
def parts(llama: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    corpus = sk.load_corpus([{**t, "language": "en"} for t in tiny_texts()], name="tiny")
    config = sk.TrainConfig(n_tokens=3_000, batch_size=64, context_size=24, buffer_tokens=512)
    sae_config = sk.SAEConfig(d_in=32, d_sae=64, activation="batchtopk", k=4)
    sae = sk.train(llama, corpus, hook_name=HOOK, config=config, progress=False, sae=sae_config)
    cache = sk.cache_activations(
        llama, corpus, HOOK, tmp_path_factory.mktemp("recipes") / "activations", length=24, progress=False
    )
    return llama, sae, cache


@pytest.mark.slow
def test_concepts_are_judged_once_and_tabulated(
    parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    model, sae, cache = parts
    bridges = next(concept for concept in concepts.NAMED_CONCEPTS if concept.name == "bridges")
    absent = next(concept for concept in concepts.NAMED_CONCEPTS if concept.name == "Japan")
    monkeypatch.setattr(concepts, "NAMED_CONCEPTS", (bridges, absent))
    monkeypatch.setattr(judging, "UNRELATED_QUESTIONS", ("a cat", "the mat"))
    monkeypatch.setattr(judging, "N_PERMUTATIONS", 19)
    indexes, path = judging.evidence_index(model, sae, cache, tmp_path), tmp_path / "concepts.json"
    done = judging.judge(model, sae, indexes, path)
    assert done["concepts"]["Japan"] == {"feature": None, "text": "evidence"}
    assert (done["n_measured"], done["texts"]["evidence"]["n_tokens"]) == (1, cache.n_tokens)
    row = done["concepts"]["bridges"]
    assert 0 <= row["auroc"] <= 1 and row["reached"] == (row["auroc"] > 0.95 and row["top_precision"] > 0.8)
    table = judging.table(without_nan(done))
    assert f"| {row['feature']} |" in table and table.splitlines()[-1].startswith("| Japan | too rare")
    assert "mentioned" in table and "| text |" not in table, "a single text is not named in every row"
    monkeypatch.setattr(judging, "specificity_row", None)
    kept = judging.judge(model, sae, indexes, path)["concepts"]["bridges"]
    assert without_nan(kept) == without_nan(row), "kept, not measured again"


def test_a_feature_is_chosen_on_one_half_and_reported_on_the_other(parts: Any, tmp_path: Path) -> None:
    model, sae, cache = parts
    bridges = next(concept for concept in concepts.NAMED_CONCEPTS if concept.name == "bridges")
    (index,) = judging.evidence_index(model, sae, cache, tmp_path).values()
    feature = judging.chosen_feature(index, bridges)
    assert feature is not None
    ranked = sk.rank_features(index, bridges.in_text, n=judging.N_CANDIDATES, n_permutations=0)
    row = judging.specificity_row(index, bridges, feature, n_permutations=0)
    assert row["documents"] == "report" and row["auroc"] == pytest.approx(ranked.loc[feature, "auroc"])
    seen = [sk.specificity(index, f, bridges.in_text, documents="choose", n_permutations=0) for f in ranked.index]
    above = [result.feature for result in seen if result.auroc.value > judging.MIN_AUROC]
    assert feature == (above or list(ranked.index))[0]
    n = row["n_positive_documents"]
    assert row["auroc_n"] == min(n, row["n_documents"] - n)
    assert (row["auroc_low"] <= row["auroc"] <= row["auroc_high"]) if n >= 5 else row["auroc_low"] != row["auroc_low"]


def test_a_concept_is_measured_where_there_are_documents_of_it(parts: Any, tmp_path: Path) -> None:
    model, sae, _ = parts

    def index(name: str, texts: list[str]) -> sk.FeatureIndex:
        corpus = sk.load_corpus([{"text": text, "language": "en"} for text in texts], name=name)
        return sk.build_index(model, sae, corpus, out=tmp_path / name, length=24, progress=False)

    many, few = [f"the bridge is {i}" for i in range(10)], ["a bridge and the cat", "the cat sat on the mat"]
    bridges = next(concept for concept in concepts.NAMED_CONCEPTS if concept.name == "bridges")
    french = next(concept for concept in concepts.NAMED_CONCEPTS if concept.name == "French")
    few_first = {"demo": index("few", few), "packages": index("many", many)}
    assert judging.text_of(few_first, bridges) == "packages"
    assert judging.text_of(dict(reversed(few_first.items())), bridges) == "packages"
    assert judging.text_of({"demo": few_first["demo"]}, bridges) == "demo"
    assert judging.n_documents(few_first["demo"], french) == 0, "no document has the label"
    assert judging.text_of(few_first, french) == "demo"


def test_intervals_say_how_many_documents_they_are_over() -> None:
    row = {"auroc": 0.98, "auroc_low": 0.9, "auroc_high": 0.991, "auroc_n": 7}
    assert judging.interval(row, "auroc", 3) == "0.980 [0.900, 0.991], 7 documents"
    assert judging.interval(row | {"auroc_low": None, "auroc_high": None, "auroc_n": 1}, "auroc") == "0.98, 1 document"
    assert judging.interval(row | {"auroc": None}, "auroc") == "-"


@pytest.mark.slow
def test_packaged_saes_are_measured_again(parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sae, _ = parts
    before = read_json(PRETRAINED / "smollm2-135m-instruct" / "16k" / "card.json") | {"d_sae": 64, "golden_gate": {}}
    stored = sae.half().save(tmp_path / "out" / "tiny")
    write_json(tmp_path / "out" / "tiny" / "card.json", before | {"name": "out/tiny"})
    demo = pd.DataFrame(tiny_texts()).assign(topic="a bridge", group="thing", style="story", part="training")
    monkeypatch.setattr(mixture, "demo_text", lambda: demo.assign(source="demo", kind="model", language="en"))
    monkeypatch.setattr(sk, "load_model", lambda **_: model)
    monkeypatch.setattr(judging, "layer_of", lambda sae: 1)
    monkeypatch.setattr(harvest, "hook", lambda layer: HOOK)
    monkeypatch.setattr(harvest, "LENGTH", 24)
    monkeypatch.setattr(judging, "N_PERMUTATIONS", 19)
    bridges = tuple(concept for concept in concepts.NAMED_CONCEPTS if concept.name == "bridges")
    monkeypatch.setattr(concepts, "NAMED_CONCEPTS", bridges)
    monkeypatch.setattr(cards, "N_FEATURES", 2)
    cards.measure_again(tmp_path / "work", tmp_path / "out", ["tiny"], fidelity=False, n_judged=None, steering=False)
    after = read_json(tmp_path / "out" / "tiny" / "card.json")
    assert after["metrics"] == before["metrics"] and after["data"] == before["data"], "not measured: as it was"
    assert list(after["concepts"]) == ["bridges"] and set(after["evidence"]["texts"]) == {"demo"}
    assert after["evidence"]["texts"]["demo"]["n_documents"] == len(demo)
    page = (tmp_path / "out" / "tiny" / "CARD.md").read_text("utf8")
    assert page == card_page.page(after) and "take(900)" in page
    assert stored.is_dir()


@pytest.mark.slow
def test_the_search_keeps_what_it_has_found(parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sae, cache = parts
    (index,) = judging.evidence_index(model, sae, cache, tmp_path).values()
    monkeypatch.setattr(golden_gate, "SCREENING_QUESTIONS", ("a dog", "the bed"))
    monkeypatch.setattr(golden_gate, "REPORTING_QUESTIONS", ("a cat", "the mat"))
    monkeypatch.setattr(golden_gate, "readable", lambda study: 0.5)
    monkeypatch.setattr(golden_gate, "N_CANDIDATES", 3)

    def search() -> dict[str, Any]:
        return golden_gate.search(
            model, sae, index, tmp_path / "golden.json", strengths=(0.5,), n_screened=2, n_final=1, max_new_tokens=4
        )

    done = search()
    assert len(done["screening"]) == 2 and len(done["final"]) == 1
    feature, found = next(iter(done["final"].items()))
    assert found["counts"]["none"]["n"] == 2 and found["counts"]["control"]["n"] == len(found["controls"])
    assert f"feature {feature} clamped at 0.5" in golden_gate.report(feature, found)
    monkeypatch.setattr(sk, "dose_response", None)
    assert search()["final"].keys() == done["final"].keys()


def test_readable_prefers_the_best_rate_while_text_holds_together() -> None:
    summary = pd.DataFrame(
        [("feature", 0.3, 0.5, 0.1, 0.0), ("feature", 0.4, 0.9, 1.0, 0.1), ("feature", 0.5, 1.0, 2.0, 0.1)],
        columns=["condition", "strength", "rate", "nll_increase", "repetition"],
    )
    study: Any = type("Study", (), {"summary": summary})
    assert golden_gate.readable(study) == 0.4
    study.summary = summary.assign(repetition=0.5)
    assert golden_gate.readable(study) is None


def test_a_direction_becomes_a_feature_that_only_a_clamp_writes(llama: Any) -> None:
    import torch

    rows = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    sae = layers.with_directions(rows, HOOK, llama)
    assert not sae.encode(torch.randn(5, 32)).any()
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(2))


def test_a_layer_is_compared_with_one_sae_and_the_main_layer_with_six() -> None:
    assert [len(comparison.configs(layer, 4096)) for layer in comparison.LAYERS] == [1, 6, 1]


@pytest.mark.parametrize("name", ["1k", "4k", "16k"])
def test_packaged_cards_are_what_the_recipe_writes(name: str) -> None:
    folder = PRETRAINED / "smollm2-135m-instruct" / name
    card = read_json(folder / "card.json")
    assert (folder / "CARD.md").read_text("utf8") == card_page.page(card)
    assert card["commands"] == PACKAGED.commands("saes")


def test_results_on_disk_and_in_tables(tmp_path: Path) -> None:
    assert load_results(tmp_path / "none.json") == {}
    write_json(tmp_path / "some.json", without_nan({"a": float("nan"), "b": [1.0, float("inf")]}))
    assert load_results(tmp_path / "some.json") == {"a": None, "b": [1.0, None]}
    assert (fixed(None), fixed(float("nan")), fixed(0.5)) == ("-", "-", "0.50")
    assert markdown_table(pd.DataFrame({"a": [1], "b ": ["x"]})) == "| a | b |\n|---|---|\n| 1 | x |"
