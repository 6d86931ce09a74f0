"""Every file that saekit writes, damaged: it is named, mended or reads the same, and never anything else.

SAEKIT_FUZZ=40 makes forty times as many flips as the slow test.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import saekit as sk
from saekit import json_files
from saekit.errors import FileError

from .hostile_files import cuts, flips, replaced
from .kinds_of_files import files_of, kinds, outcome

FINE = ("named", "recovered", "same")
NAMES = ("SAE", "SAE of SAELens", "run", "checkpoints", "cache", "index", "parts of an index", "study")
NAMES += ("steered model", "default model", "releases")
N_FLIPS = 60 * int(os.environ.get("SAEKIT_FUZZ", "1"))


@pytest.fixture(scope="module")
def made(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder of each kind with what reading it gives; made when it is first asked for."""
    known, found = kinds(model), {}

    def of(name: str) -> Any:
        if name not in found:
            folder = tmp_path_factory.mktemp("kind") / "made"
            known[name].make(folder)
            found[name] = folder, known[name].read(folder)
        return known[name], *found[name]

    return of


def damages(file: Path, n_flips: int, every: int) -> Iterator[tuple[str, bytes]]:
    """Flips and cuts of a file, and of JSON every so many-th hostile value."""
    content = file.read_bytes()
    yield from ((f"flip {n}", damaged) for n, damaged in enumerate(flips(content, n_flips)))
    yield from ((f"cut {n}", damaged) for n, damaged in enumerate(cuts(content)))
    if file.suffix == ".json":
        yield from islice(replaced(content), 0, None, every)
    elif file.suffix == ".jsonl":
        first, rest = content.split(b"\n", 1)
        yield from ((what, line + b"\n" + rest) for what, line in islice(replaced(first), 0, None, every))


def counted(made: Any, name: str, scratch: Path, n_flips: int, every: int) -> tuple[Counter[str], list[str]]:
    kind, folder, expected = made(name)
    seen: Counter[str] = Counter()
    wrong = []
    for file in files_of(folder):
        for what, content in damages(file, n_flips, every):
            if content == file.read_bytes():
                continue
            found = outcome(kind, folder, file, content, expected, scratch / "damaged")
            seen[found.split(":")[0]] += 1
            if found not in FINE:
                wrong.append(f"{file.name}, {what}: {found}"[:400])
    return seen, wrong


@pytest.mark.parametrize("name", NAMES)
def test_a_few_damages_are_named_or_mended(made, name, tmp_path):
    _, wrong = counted(made, name, tmp_path, n_flips=3, every=41)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_damage_is_named_or_mended(made, name, tmp_path):
    seen, wrong = counted(made, name, tmp_path, n_flips=N_FLIPS, every=1)
    print(name, dict(seen))
    assert not wrong, f"{len(wrong)} of {seen.total()}\n" + "\n".join(wrong[:40])


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"))
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner), max_leaves=6)


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_json_or_named(content):
    try:
        json_files.parsed(content, "a.json")
    except FileError as e:
        assert "a.json is not valid JSON" in str(e)


@given(st.dictionaries(st.text("abc", max_size=3), JSON, max_size=3))
@settings(max_examples=50, deadline=None)
def test_what_was_sealed_is_as_it_was_and_one_change_is_found(value):
    value.pop(json_files.CHECKSUM, None)
    text = json.dumps(json_files.sealed(value))
    again = json_files.parsed(text, "a.json")
    json_files.check_seal(again, "a.json")
    again["changed"] = [again.get("changed")]
    with pytest.raises(FileError, match=r"a.json was altered"):
        json_files.check_seal(again, "a.json")


@pytest.mark.parametrize(
    ("value", "schema", "said"),
    [
        ({"a": [{"n": "x"}]}, dict[str, list[dict[str, int]]], r"not accepted at a\[0\].n\n.*'x'\n.*a valid integer"),
        ({"a": True}, dict[str, float], r"not accepted at a\n.*True\n.*a valid number"),
        ({"a": 10**30}, dict[str, json_files.Count], r"not accepted at a\n.*10000.*\n.*less than 9007199254740992"),
        ([], dict[str, int], r"not accepted at the top\n.*\[\]\n.*a valid dictionary"),
        ({"a": float("nan")}, dict[str, json_files.Finite], r"not accepted at a\n.*nan\n.*a finite number"),
    ],
)
def test_an_error_says_field_value_and_what_is_accepted(value, schema, said):
    with pytest.raises(FileError, match=said):
        json_files.checked(value, schema, "a.json")


def test_yaml_that_stands_for_more_than_memory_is_refused(tmp_path):
    rows = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
    (tmp_path / "config.yaml").write_text("\n".join(rows))
    with pytest.raises(FileError, match=r"config.yaml does not hold what it should\n.*aliases"):
        json_files.read_yaml(tmp_path / "config.yaml")
    with pytest.raises(sk.SaekitError, match=r"config.yaml"):
        sk.load_sae(tmp_path)
