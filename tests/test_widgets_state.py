"""The front end's state interfaces against the traits: names and types, and real states as TypeScript checks them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import traitlets as t

import saekit as sk
from conftest import HOOK
from saekit.widgets import TrainingMonitor, attention_patterns, base, card
from saekit.widgets.base import Widget

WIDGETS = Path(__file__).resolve().parents[1] / "widgets"
NODE = shutil.which("node") or shutil.which("node", path=str(Path(sys.executable).parent))
TSC = WIDGETS / "node_modules" / "typescript" / "lib" / "tsc.js"


def classes() -> list[type[Widget]]:
    """Every widget of saekit."""
    return [cls for cls in base.WIDGETS.values() if cls.static == base.STATIC]


def synced(cls: type[Widget]) -> dict[str, t.TraitType[Any, Any]]:
    """The traits that saekit defines and sends to the browser."""
    traits = cls.class_traits(sync=True).items()
    return {name: trait for name, trait in traits if issubclass(trait.this_class, Widget) and not name.startswith("_")}


# ---- the interfaces, read from the sources -----------------------------------------------------------------------


def sources() -> dict[Path, str]:
    return {path: path.read_text("utf8") for path in sorted((WIDGETS / "src").rglob("*.ts"))}


def state_name(cls: type[Widget]) -> str:
    """The interface with which the widget's entry is rendered."""
    entry = (WIDGETS / "src" / f"{cls.bundle}.ts").read_text("utf8")
    found = re.search(r"RenderProps<(\w+) & Record<string, unknown>>", entry)
    assert found, f"{cls.bundle}.ts renders no state"
    return found[1]


def home(name: str) -> Path:
    """The file that declares an interface."""
    files = [path for path, text in sources().items() if re.search(rf"export interface {name}\b", text)]
    assert len(files) == 1, f"{name} is declared in {files}"
    return files[0]


def members(name: str) -> dict[str, str]:
    """An interface's members and their types, inherited ones included."""
    text = home(name).read_text("utf8")
    head = re.search(rf"export interface {name}(?: extends ([\w, ]+))? \{{\n", text)
    assert head, name
    body = text[head.end() : text.index("\n}", head.end())]
    found = {key: kind for parent in (head[1] or "").split(", ") if parent for key, kind in members(parent).items()}
    for line in body.split("\n"):
        line = re.sub(r"\s*(//.*|/\*.*\*/)$", "", line)
        if line.strip():
            member = re.fullmatch(r"  (\w+): (.+);", line)
            assert member, f"{name}: one member a line, without ? or readonly: {line!r}"
            found[member[1]] = member[2]
    return found


def split_union(kind: str) -> list[str]:
    """The alternatives of a type: those bars that stand in no bracket."""
    parts, depth = [""], 0
    for character in kind:
        depth += (character in "([{<") - (character in ")]}>")
        if character == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def agrees(kind: str, trait: t.TraitType[Any, Any]) -> bool:
    """Whether a TypeScript type holds exactly what the trait may hold, as far as the trait says."""
    parts = split_union(kind)
    if ("null" in parts) != trait.allow_none:
        return False
    parts = [part for part in parts if part != "null"]
    if isinstance(trait, t.Unicode):
        return parts == ["string"]
    if isinstance(trait, t.Bool):
        return parts == ["boolean"]
    if isinstance(trait, (t.Int, t.Float)):
        return parts == ["number"]
    if isinstance(trait, t.List):
        inner = re.fullmatch(r"\((.*)\)\[\]|(.*)\[\]", parts[0]) if len(parts) == 1 else None
        element: Any = trait._trait
        if inner is None:
            return False
        return element is None or isinstance(element, t.Any) or agrees(inner[1] or inner[2], element)
    if isinstance(trait, t.Dict):
        return all(re.fullmatch(r"Record<.*>|\{.*\}|[A-Z]\w*", part) for part in parts)
    raise AssertionError(f"say here what {type(trait).__name__} is in TypeScript")


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_an_interface_has_the_names_and_types_of_the_traits(cls: type[Widget]) -> None:
    name, traits = state_name(cls), synced(cls)
    declared = members(name)
    assert sorted(set(traits) - set(declared)) == [], f"traits that {name} lacks"
    assert sorted(set(declared) - set(traits)) == [], f"members of {name} that are no trait of {cls.__name__}"
    wrong = {key: (declared[key], repr(trait)) for key, trait in traits.items() if not agrees(declared[key], trait)}
    assert wrong == {}, f"types in {name} that do not hold what the trait holds"


@pytest.mark.parametrize(
    ("kind", "trait", "expected"),
    [
        ("string", t.Unicode(), True),
        ("string", t.Unicode(allow_none=True), False),
        ("number | null", t.Float(allow_none=True), True),
        ("number | null", t.Int(), False),
        ("string", t.Int(), False),
        ("string[]", t.List(t.Unicode()), True),
        ("number[]", t.List(t.Unicode()), False),
        ("(Detail | null)[][]", t.List(t.List()), True),
        ("Detail[]", t.List(t.List()), False),
        ("Card | Record<string, never>", t.Dict(), True),
        ("string", t.Dict(), False),
    ],
)
def test_a_wrong_type_does_not_agree(kind: str, trait: t.TraitType[Any, Any], expected: bool) -> None:
    assert agrees(kind, trait) is expected


# ---- real states, checked by TypeScript --------------------------------------------------------------------------


def used(model: Any, sae: Any, corpus: Any, out: Path) -> list[Widget]:
    """Each widget as it is after use: with colours, cards, replies, curves."""
    index = sk.build_index(model, sae, corpus, out=out, length=48, progress=False)
    fires = int(index.features["n_firings"].idxmax())
    browser = sk.explore(index, model, sae, feature=fires).embed([fires])
    panel = sk.steer(
        model,
        sae,
        fires,
        index=index,
        prompt="the cat",
        chat=True,
        max_new_tokens=3,
        recommended={fires: 0.3},
        concept=sk.Concept.regex("a", name="an a"),
    )
    panel.run(wait=True).reply("and then", wait=True)
    monitor = TrainingMonitor()
    config = sk.TrainConfig(n_tokens=640, batch_size=64, context_size=16, buffer_tokens=256, lr=1e-3, log_every=2)
    saes = [sk.SAEConfig(d_in=model.d_model, d_sae=64, activation="topk", k=k) for k in (2, 4)]
    sk.train(model, corpus, hook_name=HOOK, sae=saes, config=config, progress=False, loggers=[monitor])
    highlight = sk.highlight(model, sae, "the cat sat")
    return [highlight, browser, card(index, fires), panel, monitor, attention_patterns(model, "the cat", layer=0)]


def literal(value: Any) -> str:
    """A value as it stands in TypeScript; bytes have the type that the browser gets them in."""
    if isinstance(value, bytes):
        return "binary"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(literal, value)) + "]"
    return json.dumps(value)


def compiled(states: dict[str, str], folder: Path) -> list[str]:
    """What TypeScript finds wrong where each interface is given an object literal."""
    imports = [f'import type {{ {name} }} from "{home(name).with_suffix("").as_posix()}";' for name in states]
    imports.append(f'import type {{ Binary }} from "{(WIDGETS / "src/shared/arrays").as_posix()}";')
    values = [f"export const state{i}: {name} = {text};" for i, (name, text) in enumerate(states.items())]
    (folder / "states.ts").write_text("\n".join([*imports, "declare const binary: Binary;", *values]), "utf8")
    options = {"noEmit": True, "types": []}
    config = {"extends": str(WIDGETS / "tsconfig.json"), "compilerOptions": options, "include": ["states.ts"]}
    (folder / "tsconfig.json").write_text(json.dumps(config), "utf8")
    command = [str(NODE), str(TSC), "--project", str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert ran.stderr == ""
    return ran.stdout.splitlines()


@pytest.mark.skipif(NODE is None or not TSC.is_file(), reason="needs Node and widgets/node_modules; make has both")
@pytest.mark.slow
def test_states_after_use_have_the_types_that_the_front_end_expects(
    tmp_path: Path, model: Any, sae: Any, corpus: Any
) -> None:
    widgets = used(model, sae, corpus, tmp_path / "index")
    widgets += [cls() for cls in classes() if cls.bundle not in {widget.bundle for widget in widgets}]
    states = {
        state_name(type(widget)): literal({name: getattr(widget, name) for name in synced(type(widget))})
        for widget in widgets
    }
    assert compiled(states, tmp_path) == []

    # It can fail, deep inside: a key that the interface lacks, another type, a key that is missing.
    changes = [
        ("SteeringState", '"repetition"', '"repetitions"', "'\"repetitions\"' does not exist in type 'Reply'"),
        ("CardState", '"silent": false', '"silent": "no"', "Type 'string' is not assignable to type 'boolean'"),
        ("MonitorState", '"rate": ', '"live": true, "was": ', "'\"was\"' does not exist in type 'MonitorState'"),
        ("HighlightState", '"names": {}, ', "", "Property 'names' is missing"),
    ]
    broken = {}
    for name, before, after, _ in changes:
        assert before in states[name], (name, before)
        broken[name] = states[name].replace(before, after)
    problems = "\n".join(compiled(broken, tmp_path))
    assert [problem for *_, problem in changes if problem not in problems] == [], problems
