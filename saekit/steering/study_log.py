"""The texts of a steering study in a folder, so that a study that was stopped resumes where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..atomic_io import with_current_keys, write_json
from ..errors import MismatchError
from ..json_files import read_json

PLAN, TEXTS = "study.json", "texts.jsonl"
KEY = ("condition", "feature", "strength", "prompt", "seed")
"""The key of one text of a study."""


class StudyLog:
    """The texts of a study in a folder, one JSON line each."""

    def __init__(self, folder: Path, described: dict[str, Any]) -> None:
        self.path = folder / TEXTS
        folder.mkdir(parents=True, exist_ok=True)
        described = json.loads(json.dumps(described))
        if (folder / PLAN).exists():
            before = with_current_keys(read_json(folder / PLAN))
            if differing := sorted(k for k in {*before, *described} if before.get(k) != described.get(k)):
                raise MismatchError(
                    f"{folder} holds another study",
                    got=", ".join(differing) + " differ",
                    accepted="the same settings",
                    fix="pass another folder as out=, or delete this one",
                )
        else:
            write_json(folder / PLAN, described)

    def read(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        """The records so far by key. A last line that was cut off in the middle is dropped."""
        if not self.path.exists():
            return {}
        whole, _, cut = self.path.read_text("utf8").rpartition("\n")
        if cut:
            self.path.write_text(whole + "\n" * bool(whole), "utf8")
        records = [json.loads(line) for line in whole.splitlines()]
        return {tuple(record[name] for name in KEY): record for record in records}

    def append(self, records: Sequence[dict[str, Any]]) -> None:
        with self.path.open("a", encoding="utf8") as file:
            file.writelines(json.dumps(record, ensure_ascii=True) + "\n" for record in records)
