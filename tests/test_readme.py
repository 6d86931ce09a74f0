"""What the README says saekit takes, row by row, against the tests that show it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from .zoo import KINDS

ROOT = Path(__file__).resolve().parents[1]

MODELS = {
    "the default model": "test_models_default_model.py",
    "a name on the Hub, or in its cache": "test_models_hub.py::test_a_model_in_the_cache_is_loaded_without_the_hub",
    "a folder": "test_zoo_models.py::test_logits_of_a_padded_batch_equal_those_of_each_row_alone",
    "a GGUF file": "test_models_default_model.py",
    "a model of transformers": "test_models_loading.py::test_a_hugging_face_model_and_its_tokenizer_are_read",
    "a TransformerBridge": "test_models_loading.py::test_ready_models_are_not_moved_or_folded_without_a_word",
    "another tokenizer": "test_models_loading.py::test_a_tokenizer_may_be_passed_beside_a_folder",
}
TEXTS = {
    "texts": "test_any_text.py::test_every_function_with_a_corpus_takes_plain_texts",
    "a frame": "test_corpus.py::test_frame_and_repr",
    "tables, lines and plain text, also .gz, .bz2 and .xz": "test_any_text.py::test_compressed_files_are_read_the_same",
    "a folder or a pattern": "test_any_text.py::test_files_and_folders_named_after_a_split",
    "another encoding": "test_any_text.py::test_encodings",
    "a dataset of the Hub, saved to disk or in memory": "test_any_text.py::test_saved_datasets_and_datasets_in_memory",
    "nested fields": "test_any_text.py::test_nested_fields",
    "conversations, in the model's own template": "test_any_text.py::test_a_conversation_is_read_in_the_template",
    "token ids as they are": "test_any_text.py::test_token_ids_are_kept_as_they_are",
}
SPELT = {
    "GPT-2": "gpt2",
    "GPT-NeoX": "neox",
    "Gemma": "gemma",
    "Gemma 2": "gemma2",
    "Gemma 3": "gemma3",
    "Gemma 4": "gemma4",
    "Qwen 2": "qwen2",
    "Qwen 3": "qwen3",
    "Qwen 3 Next": "qwen3_next",
    "Phi-3": "phi3",
    "OLMo 2": "olmo2",
}
"""The names of architectures that the zoo spells otherwise than in lower case."""


def section(title: str) -> str:
    return (ROOT / "README.md").read_text("utf8").split(f"## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[str]:
    return re.findall(r"^\| (?!what |--)(.*?) \|", section(title), flags=re.M)


@pytest.mark.parametrize("title, known", [("Models it takes", MODELS), ("Text it reads", TEXTS)])
def test_every_row_has_a_test(title: str, known: dict[str, str]) -> None:
    assert rows(title) == list(known)
    for test in known.values():
        file, _, name = test.partition("::")
        source = (ROOT / "tests" / file).read_text("utf8")
        assert f"def {name}" in source if name else "def test_" in source, test


def test_every_architecture_is_in_the_zoo() -> None:
    listed = (
        section("Models it takes").split("Architectures compared: ")[1].split(".")[0].replace("\n", " ").split(", ")
    )
    names = [SPELT.get(name, name.lower()) for name in listed]
    assert len(names) == 22 and set(names) <= KINDS.keys()


INTERVAL = r"-?\d+\.\d+ \[-?\d+\.\d+, -?\d+\.\d+\]"
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
WORDS = {1: "one", 40: "forty"}


def cells(notebook: str, kind: str) -> list[dict[str, Any]]:
    """The cells of a kind of a stored notebook."""
    found = json.loads((ROOT / "notebooks" / notebook).read_text("utf8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == kind]


def shown(notebook: str) -> str:
    """Everything that the stored outputs of a notebook show as text."""
    outputs = [output for cell in cells(notebook, "code") for output in cell["outputs"]]
    parts = [o.get("text", []) for o in outputs]
    parts += [value for o in outputs for kind, value in o.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join("".join(part) for part in parts)


def study() -> dict[tuple[str, str], tuple[str, ...]]:
    """The steering study of notebook 04: units and the rate with its interval, by condition and strength."""
    row = r"^  (\w+) +([\d.]+|-) +\d+ +(\d+) \w+ +(\d\.\d+) \[(\d\.\d+), (\d\.\d+)\]"
    found = re.findall(row, shown("04_golden_gate.ipynb"), flags=re.M)
    assert len(found) == 14, "two conditions without a strength and three with four"
    return {(condition, strength): tuple(rest) for condition, strength, *rest in found}


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_intervals_in_a_notebooks_prose_are_those_of_its_outputs(notebook: str) -> None:
    prose = "\n".join("".join(cell["source"]) for cell in cells(notebook, "markdown"))
    output = shown(notebook)
    assert [figure for figure in re.findall(INTERVAL, prose) if figure not in output] == []


def test_the_readme_quotes_notebook_04() -> None:
    readme, output = (ROOT / "README.md").read_text("utf8"), shown("04_golden_gate.ipynb")
    strength = re.search(r"; recommended: ([\d.]+) x", output)[1]  # type: ignore[index]
    n, rate, low, high = study()["feature", strength]
    with_it, of = map(int, re.search(r"(\d+) of (\d+) show it at all", output).groups())  # type: ignore[union-attr]
    assert study()["none", "-"][1] == "0.00"
    assert f"At {strength} of the residual norm, a strength that six other questions chose, feature 3722" in readme
    assert f"{float(rate):.0%}".replace("%", " %") + f" of answers mention a bridge ({low} to {high}, {n} " in readme
    assert f"questions; none unsteered), against {WORDS[with_it]} of {WORDS[of]} control features" in readme


def test_the_steering_results_are_those_of_notebook_04() -> None:
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text("utf8").split("## Steering to a bridge\n")[1]
    strengths = re.search(r"^\| \| (0[^\n]*) \|$", results, flags=re.M)[1].split(" | ")  # type: ignore[index]
    titles = {
        "feature": "feature 3722, 20 questions",
        "direction": "mean-difference direction, 20 questions",
        "control": "40 control features",
    }
    for condition, title in titles.items():
        line = next(line for line in results.splitlines() if line.startswith(f"| {title} |"))
        quoted = [re.match(INTERVAL, cell)[0] for cell in line.split(" | ")[1:]]  # type: ignore[index]
        known = [study()[condition, strength][1:] for strength in strengths]
        assert quoted == [f"{rate} [{low}, {high}]" for rate, low, high in known], title
