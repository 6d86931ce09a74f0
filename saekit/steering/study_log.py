"""The texts of a steering study in a folder, so that a study that was stopped resumes where it was.

Lines are only ever added. Of a last line that a kill or a full disk has cut short that line alone goes, and its text is
generated again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..atomic_io import sync_folder, with_current_keys, write_json
from ..errors import FileError, MismatchError, disk_errors
from ..json_files import read_json
from ..output_folder import check_part, digest_of_plan

PLAN, TEXTS = "study.json", "texts.jsonl"
KEY = ("condition", "feature", "strength", "prompt", "seed")
"""The key of one text of a study."""
LATER = ("hook_name", "token_filter", "edits", "maxima", "read", "dtype")
"""What the plans of earlier versions do not say."""


class StudyLog:
    """The texts of a study in a folder, one JSON line each. Its user holds the lock of the folder.

    `plan` is everything that the texts and their numbers depend on; every line carries its digest.
    """

    def __init__(self, folder: Path, plan: dict[str, Any]) -> None:
        self.path = folder / TEXTS
        plan = json.loads(json.dumps(plan))
        self.digest = digest_of_plan(plan)
        if (folder / PLAN).exists():
            before = with_current_keys(read_json(folder / PLAN))
            before = {**{name: plan[name] for name in LATER if name in plan}, **before}
            if differing := sorted(k for k in {*before, *plan} if before.get(k) != plan.get(k)):
                raise MismatchError(
                    f"{folder} holds another study",
                    got=", ".join(differing) + " differ",
                    accepted="the same settings",
                    fix="pass another folder as out=, or delete this one",
                )
        else:
            write_json(folder / PLAN, plan)

    def read(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        """The records so far by key. A last line that was cut off in the middle is taken off the file."""
        if not self.path.exists():
            return {}
        with disk_errors(self.path):
            content = self.path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                with self.path.open("rb+") as file:  # shortened in place: what stands before is not written again
                    file.truncate(whole)
                    os.fsync(file.fileno())
        records = {}
        for number, line in enumerate(content[:whole].splitlines()):
            record = self._record(number + 1, line)
            records[tuple(record[name] for name in KEY)] = record
        return records

    def _record(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads(line)
            check_part(record.pop("plan", None), self.digest, self.path)
            if missing := [name for name in (*KEY, "text", "tokens") if name not in record]:
                raise ValueError(f"without {missing[0]}")
        except FileError:
            raise
        except (ValueError, AttributeError, TypeError) as e:
            raise FileError(
                f"{self.path} is damaged at line {number}",
                got=line[:80].decode("utf8", "replace"),
                accepted="a text of this study",
                fix=f"delete line {number}: its text is generated again, and the others stay",
            ) from e
        return record

    def append(self, records: Sequence[dict[str, Any]]) -> None:
        """Adds records, and returns once they are on disk."""
        new = not self.path.exists()
        lines = [json.dumps({**record, "plan": self.digest}, ensure_ascii=True) + "\n" for record in records]
        with disk_errors(self.path), self.path.open("ab") as file:
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())
        if new:
            sync_folder(self.path.parent)
