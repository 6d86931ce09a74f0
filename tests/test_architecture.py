"""The rooms of saekit and the order they are built in, and files that stay small enough to read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "saekit"
PUBLIC = "saekit"
"""The public API: saekit/__init__.pyi, from which __init__.py imports."""
ROOMS = ["errors", "arguments", "json_files", "atomic_io", "json_lines", "output_folder", "cache_folder", "display"]
ROOMS += ["statistics", "plotting", "hook_points", "sae", "models", "corpus", "activations", "evaluation", "training"]
ROOMS += ["synthetic", "scaling", "index", "specificity", "steering", "circuits", "widgets"]
ROOMS += ["diagnosis", PUBLIC, "demo", "cli_help", "cli_config", "cli", "__main__"]
"""A room may import those before it and none after it, and the public API is a room of its own."""
LIBRARY_HOMES = {"transformer_lens": "models", "anywidget": "widgets", "circuitsvis": "widgets"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted(p for suffix in ("*.py", "*.pyi") for p in PACKAGE.rglob(suffix))
MODULES = {module_name(p) for p in FILES}


def room_of(module: str) -> str:
    """The package or module directly under saekit that a module belongs to."""
    return module.split(".")[1] if "." in module else PUBLIC


def import_statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import in a file, those inside functions too; not those under TYPE_CHECKING, which never run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from import_statements(ast.Module(child.orelse, []))
        else:
            yield from import_statements(child)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imported_modules(path: Path) -> list[tuple[int, str]]:
    """The modules of saekit that a file imports, with the line. `from . import x` is x where x is a module.

    That importing a.b also runs a/__init__.py is left out: in a package each would be in a circle with its own.
    """
    package = path.relative_to(ROOT).parts[:-1]
    found: list[tuple[int, str]] = []
    for statement in import_statements(tree_of(path)):
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        else:
            above = package[: len(package) - statement.level + 1] if statement.level else ()
            base = ".".join([*above, *([statement.module] if statement.module else [])])
            inner = [f"{base}.{alias.name}" for alias in statement.names]
            names = [name if name in MODULES else base for name in inner]
        found += [(statement.lineno, name) for name in dict.fromkeys(names) if name in MODULES]
    return found


def import_graph() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        name = module_name(path)
        graph.setdefault(name, set()).update(target for _, target in imported_modules(path) if target != name)
    return graph


def test_every_package_has_its_place_in_the_order():
    assert {room_of(m) for m in MODULES} <= set(ROOMS)


def test_a_room_imports_only_those_before_it():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {target}"
        for path in FILES
        for line, target in imported_modules(path)
        if ROOMS.index(room_of(target)) > ROOMS.index(room_of(module_name(path)))
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle():
    try:
        TopologicalSorter(import_graph()).prepare()
    except CycleError as e:
        pytest.fail(" imports ".join(reversed(e.args[1])))


def test_the_graph_counts_what_runs():
    source = """
from typing import TYPE_CHECKING
from ..errors import SaekitError
from . import saelens, loading
if TYPE_CHECKING:
    from ..base import SAE
else:
    from ..config import SAEConfig
def lazy():
    try:
        import saekit.models.loading
    finally:
        from ...corpus import load_corpus
"""
    statements = list(import_statements(ast.parse(source)))
    assert [s.lineno for s in statements] == [2, 3, 4, 8, 11, 13]
    graph = import_graph()
    assert "saekit.sae.formats.registry" in graph["saekit.sae.formats.loading"]
    assert "saekit.widgets" in graph["saekit"] and "saekit" in graph["saekit.cli"]


@pytest.mark.parametrize("library", LIBRARY_HOMES)
def test_a_library_has_one_home(library):
    pattern = re.compile(rf"^\s*(from|import) {library}\b", re.MULTILINE)
    users = {room_of(module_name(p)) for p in FILES if pattern.search(p.read_text())}
    assert users <= {LIBRARY_HOMES[library]}


def test_every_module_says_what_it_is():
    assert [str(p) for p in FILES if not ast.get_docstring(tree_of(p))] == []


def written_files() -> list[Path]:
    """The files that people write: Python and the widgets' sources."""
    python = [p for f in ("saekit", "tests", "benchmarks", "recipes", "scripts") for p in (ROOT / f).rglob("*.py*")]
    typescript = (ROOT / "widgets" / "src").rglob("*")
    return [p for p in [ROOT / "conftest.py", *python, *typescript] if p.suffix in (".py", ".pyi", ".ts", ".css")]


def test_files_stay_readable():
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in written_files()}
    long = {name: n for name, n in sorted(lengths.items()) if n > 350}
    assert len(long) <= 8 and max(lengths.values()) <= 400, long


def test_the_formatter_is_obeyed():
    skipped = [str(p) for p in written_files() for _ in re.findall(r"#\s*fmt:\s*(skip|off)", p.read_text())]
    assert len(skipped) <= 20, skipped


def test_the_page_of_the_architecture_names_every_package_in_the_order_of_imports():
    page = (ROOT / "docs" / "architecture.md").read_text("utf8")
    packages = [p.parent.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("__init__.py") if p.parent != PACKAGE]
    assert [name for name in packages if f"`{name}/`" not in page] == []
    modules = [p.name for p in PACKAGE.glob("*.py") if p.name != "__main__.py"]
    assert [name for name in modules if f"`{name}`" not in page] == []
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = [room for row in rows for room in ROOMS if f"`{room}.py`" in row or f"`{room}/`" in row]
    assert named == sorted(named, key=ROOMS.index)
