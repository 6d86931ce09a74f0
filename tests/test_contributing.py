"""Every recipe in CONTRIBUTING.md works as it is written: its files are added to a copy of saekit and its check is run.

A fenced block says in its info string what is done with it: `new=PATH` writes a file, `add=PATH after="LINE"` puts
lines behind a line that is there, `change=PATH line="LINE"` puts them in its place, `check` is run in the copy. A
recipe is what stands under one "## Add" heading.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"


def recipes():
    """The fenced blocks of each recipe: (what is done, its options, the text)."""
    found, name = {}, None
    tokens = MarkdownIt().parse(PAGE.read_text("utf8"))
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and token.tag == "h2":
            name = following.content if following.content.startswith("Add ") else None
            if name is not None:
                found[name] = []
        elif token.type == "fence" and name is not None:
            options = dict(part.partition("=")[::2] for part in shlex.split(token.info)[1:])
            found[name].append((options, token.content))
    return found


def test_there_are_four_recipes():
    assert list(recipes()) == ["Add an architecture", "Add an index statistic", "Add an edit", "Add a widget"]


@pytest.fixture
def copy(tmp_path):
    """A copy of what a recipe changes, with links to what is large."""
    ignored = shutil.ignore_patterns("__pycache__", "pretrained", "data")
    shutil.copytree(ROOT / "saekit", tmp_path / "saekit", ignore=ignored)
    for name in ("pretrained", "data"):
        (tmp_path / "saekit" / name).symlink_to(ROOT / "saekit" / name)
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__", "browser"))
    shutil.copytree(ROOT / "widgets", tmp_path / "widgets", ignore=shutil.ignore_patterns("node_modules"))
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    if (ROOT / "widgets" / "node_modules").is_dir():
        (tmp_path / "widgets" / "node_modules").symlink_to(ROOT / "widgets" / "node_modules")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", list(recipes()))
def test_a_recipe_works_as_it_is_written(name, copy):
    checks = 0
    for options, text in recipes()[name]:
        if "new" in options:
            path = copy / options["new"]
            assert not path.exists(), f"{options['new']} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf8")
        elif "add" in options:
            insert(copy / options["add"], options["after"], options["after"] + "\n" + text)
        elif "change" in options:
            insert(copy / options["change"], options["line"], text)
        else:
            assert "check" in options, f"a block of {name!r} says nothing of what is done with it"
            run(text, copy)
            checks += 1
    assert checks, f"{name!r} has no check"


def insert(path, line, text):
    """Puts text in the place of a line that stands once in the file."""
    before = path.read_text("utf8")
    assert before.count(line + "\n") == 1, f"{path.name} does not have the line {line!r} once"
    path.write_text(before.replace(line + "\n", text), "utf8")


def run(commands, copy):
    """Runs shell commands in the copy, where `python` is this one and saekit the copy's."""
    environment = os.environ | {"PYTHONPATH": str(copy), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    if re.search(r"^npm", commands, re.MULTILINE) and not (copy / "widgets" / "node_modules").exists():
        pytest.skip("widgets/node_modules is missing: run make bundle once")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
