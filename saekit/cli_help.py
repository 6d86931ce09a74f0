"""Help texts that name the architectures, read from their source: importing them would load torch for a help text."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

FOLDER = Path(__file__).parent / "sae" / "architectures"


class ArchitecturesInHelp(TyperCommand):
    """A command whose help names the architectures, and those that have an option, when it is asked for."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, with {architectures} and each {option of SAEConfig} filled in."""
        if parts := [p for p in self.params if "{" in (getattr(p, "help", None) or "")]:
            known = declared() | registered()
            options = dict.fromkeys(option for options in known.values() for option in options)
            words = {option: ", ".join(name for name in known if option in known[name]) for option in options}
            for part in parts:
                text: str = getattr(part, "help")  # noqa: B009 (a parameter of click has none, an option does)
                setattr(part, "help", text.format(architectures=", ".join(known), **words))  # noqa: B010
        super().format_help(ctx, formatter)


def in_options(message: str, options: Iterable[str]) -> str:
    """A message of the Python API with the keywords that are options of a command written as on the command line.

    >>> in_options('pass encoding="cp1252", or resume=False', ["encoding", "resume"])
    'pass --encoding cp1252, or --no-resume'
    """

    def written(found: re.Match[str]) -> str:
        name, value = found["name"].replace("_", "-"), found["value"].strip("\"'")
        if found["name"] == "hook_name":
            name = "hook"
        if value in ("True", "False"):
            return f"--{'no-' * (value == 'False')}{name}"
        return f"--{name} {value}".rstrip()

    known = {*options} | ({"hook_name"} if "hook" in options else set())
    pattern = rf"(?<![\w.-])(?P<name>{'|'.join(map(re.escape, sorted(known)))})=(?P<value>\"[^\"]*\"|'[^']*'|\w*)"
    message = re.sub(pattern, written, message) if known else message
    return re.sub(r"sk\.load_corpus\([^)]*\)|load_corpus\([^)]*\)", "--corpus with a file or dataset", message)


def declared() -> dict[str, tuple[str, ...]]:
    """The architectures that come with saekit, in the registry's order, each with its options.

    >>> declared()["topk"]
    ('k', 'matryoshka', 'multi_k_coefficient')
    """
    trees = [ast.parse(path.read_text("utf8")) for path in sorted(FOLDER.glob("*.py"))]
    classes = {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    values = {name: value for tree in trees for name, value in _assigned(tree.body)}
    built_in = [call.func.id for call in ast.walk(values["BUILT_IN"]) if isinstance(call, ast.Call)]  # type: ignore[attr-defined]
    return {str(_attribute("name", c, classes)): tuple(_attribute("options", c, classes) or ()) for c in built_in}


def registered() -> dict[str, tuple[str, ...]]:
    """The same from the registry, users' own architectures included, where something has loaded it already."""
    registry = sys.modules.get("saekit.sae.architectures.registry")
    return {} if registry is None else {a.name: a.options for a in registry.ARCHITECTURES.values()}


def _attribute(name: str, kind: str, classes: dict[str, ast.ClassDef]) -> Any:
    """The literal value of a class attribute, its own or the first parent's that has one; None where there is none."""
    for assigned, value in _assigned(classes[kind].body):
        if assigned == name:
            return ast.literal_eval(value)
    parents = [base.id for base in classes[kind].bases if isinstance(base, ast.Name) and base.id in classes]
    found = (_attribute(name, parent, classes) for parent in parents)
    return next((value for value in found if value is not None), None)


def _assigned(body: list[ast.stmt]) -> list[tuple[str, ast.expr]]:
    """The plain assignments among some statements: name and value."""
    out = []
    for node in body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name):
                out.append((target.id, node.value))
    return out
