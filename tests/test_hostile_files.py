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

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import saekit as sk
from saekit import json_files, json_lines
from saekit.errors import ConfigError, FileError
from saekit.steering.where import Where

from .files_of_others import OTHERS
from .hostile_files import DEEP, at_most, cuts, flips, replaced
from .kinds_of_files import files_of, kinds, outcome

FINE = ("named", "recovered", "same")
NAMES = ("SAE", "SAE of SAELens", "run", "checkpoints", "cache", "index", "parts of an index", "study")
NAMES += ("steered model", "default model", "releases")
AS_BY_OTHERS = ("('metadata', 'saekit') left out",)
"""Without saekit's part a folder is one that SAELens has written."""
N_FLIPS = 60 * int(os.environ.get("SAEKIT_FUZZ", "1"))


@pytest.fixture(scope="module")
def made(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder of each kind with what reading it gives; made when it is first asked for."""
    known, found = kinds(model) | OTHERS, {}

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
    elif file.suffix in (".yaml", ".csv"):
        lines = [
            b"a: &a 1\nb: *a",
            b"sae: {k: 2026-99-99}",
            b"- " * 5000,
            DEEP.encode(),
            b"\xff",
            b"? [a]\n: 1",
            b"k: 1e999",
        ]
        yield from ((f"all = {line[:20]!r}", line) for line in lines[:: -(-every // 10)])
        yield from ((f"also {line[:20]!r}", content + line) for line in lines[:: -(-every // 10)])
    elif file.suffix == ".jsonl":
        first, rest = content.split(b"\n", 1)
        yield from ((what, line + b"\n" + rest) for what, line in islice(replaced(first), 0, None, every))


def counted(made: Any, name: str, scratch: Path, n_flips: int, every: int) -> tuple[Counter[str], list[str]]:
    kind, folder, expected = made(name)
    seen: Counter[str] = Counter()
    wrong = []
    for file in files_of(folder):
        for what, content in damages(file, n_flips, every):
            if content == file.read_bytes() or what in AS_BY_OTHERS:
                continue
            found = outcome(kind, folder, file, content, expected, scratch / "damaged")
            seen[found.split(":")[0]] += 1
            if found not in FINE:
                wrong.append(f"{file.name}, {what}: {found}"[:400])
    return seen, wrong


@pytest.mark.parametrize("name", [*NAMES, *OTHERS])
def test_a_few_damages_are_named_or_mended(made, name, tmp_path):
    _, wrong = counted(made, name, tmp_path, n_flips=3, every=41)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, *OTHERS])
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


@pytest.mark.slow
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


def test_a_line_that_changed_is_named_and_a_cut_one_goes(tmp_path):
    path, schema = tmp_path / "a.jsonl", dict[str, float]
    json_lines.append_lines(path, [{"step": n} for n in range(3)])
    whole = path.read_text()
    for at, damage in ((1, "9"), (2, "8")):
        lines = whole.splitlines(keepends=True)
        lines[at] = lines[at].replace(f'"step": {at}', f'"step": {damage}')
        path.write_text("".join(lines))
        with pytest.raises(FileError, match=rf"a.jsonl, line {at + 1} was altered[\s\S]*write it again"):
            json_lines.read_lines(path, schema, fix="write it again")
    path.write_text(whole[:-10])
    assert json_lines.read_lines(path, schema, fix="") == [{"step": 0}, {"step": 1}]
    json_lines.append_lines(path, [{"step": 5}])
    assert path.read_text().startswith("".join(whole.splitlines(keepends=True)[:2]))
    path.write_text(path.read_text()[:-1])  # the line break alone is lost
    json_lines.append_lines(path, [{"step": 6}])
    assert [row["step"] for row in json_lines.read_lines(path, schema, fix="")] == [0, 1, 5, 6]


def test_arrays_that_claim_more_than_the_file_holds_are_refused(tmp_path):
    OTHERS["Gemma Scope"].make(tmp_path / "npz")
    zeros = {name: np.zeros((6_000, 6_000), np.float16) for name in ("w_enc",)}
    np.savez_compressed(
        tmp_path / "npz" / "params.npz", **zeros, w_dec=[0.0], b_enc=[0.0], b_dec=[0.0], threshold=[0.0]
    )
    with at_most(2**25), pytest.raises(FileError, match=r"params.npz: w_enc is larger than what the archive holds"):
        sk.load_sae(tmp_path / "npz")
    OTHERS["dictionary_learning"].make(tmp_path / "pt")
    state = torch.load(tmp_path / "pt" / "ae.pt", weights_only=True)
    torch.save(state | {"encoder.bias": torch.zeros(1).expand(10**9)}, tmp_path / "pt" / "ae.pt")
    with at_most(2**28), pytest.raises(FileError, match=r"ae.pt: encoder.bias is larger than what the file holds"):
        sk.load_sae(tmp_path / "pt")


def test_token_ids_do_not_decide_how_much_memory_is_taken(model, tmp_path):
    where = Where(pattern="a", ids=(5, 10**12))
    with at_most(2**28):
        assert where.mask(torch.tensor([[5, 6]]), torch.zeros(1, 2, 32)).tolist() == [[True, False]]
    with pytest.raises(ConfigError, match=r"a special id .*\n.*1000000000000"):
        sk.TokenFilter(special_ids=(10**12,))


def test_yaml_that_stands_for_more_than_memory_is_refused(tmp_path):
    rows = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
    (tmp_path / "config.yaml").write_text("\n".join(rows))
    with pytest.raises(FileError, match=r"config.yaml does not hold what it should\n.*aliases"):
        json_files.read_yaml(tmp_path / "config.yaml")
    with pytest.raises(sk.SaekitError, match=r"config.yaml"):
        sk.load_sae(tmp_path)
