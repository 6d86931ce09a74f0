"""docs/reliability.md: every row of every table names tests, and each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADER = "| what happens | what saekit does | shown by |"


def rows() -> list[list[str]]:
    page = (ROOT / "docs" / "reliability.md").read_text("utf8")
    lines = [line for line in page.splitlines() if line.startswith("|") and line != HEADER and set(line) - set("|-")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_row_says_what_happens_what_is_done_and_which_test_shows_it() -> None:
    assert len(rows()) >= 12
    wrong = [row for row in rows() if len(row) != 3 or not all(row) or not re.findall(r"`test_\w+`", row[2])]
    assert wrong == []


def test_every_test_that_the_page_names_exists() -> None:
    files = (ROOT / "tests").rglob("test_*.py")
    known = {name for file in files for name in re.findall(r"^ *def (test_\w+)\(", file.read_text("utf8"), re.M)}
    named = {name for row in rows() for name in re.findall(r"`(test_\w+)`", row[2])}
    assert sorted(named - known) == []


def test_no_row_stands_twice() -> None:
    first = [row[0] for row in rows()]
    assert sorted(set(first)) == sorted(first)
