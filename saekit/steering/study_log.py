"""The texts of a steering study in a folder, so that a study that was stopped resumes where it was.

Lines are only ever added. Of a last line that a kill or a full disk has cut short that line alone goes, and its text is
generated again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..atomic_io import with_current_keys, write_json
from ..errors import MismatchError
from ..json_files import CHECKSUM, read_sealed, sealed
from ..json_lines import append_lines, read_lines
from ..output_folder import check_part, digest_of_plan
from .file_schema import Plan, TextFields

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
            before = with_current_keys(read_sealed(folder / PLAN, Plan))
            before.pop(CHECKSUM, None)
            before = {**{name: plan[name] for name in LATER if name in plan}, **before}
            if differing := sorted(k for k in {*before, *plan} if before.get(k) != plan.get(k)):
                raise MismatchError(
                    f"{folder} holds another study",
                    got=", ".join(differing) + " differ",
                    accepted="the same settings",
                    fix="pass another folder as out=, or delete this one",
                )
        else:
            write_json(folder / PLAN, sealed(plan))

    def read(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        """The records so far by key; a last line that was cut off in the middle is left out."""
        records = {}
        for record in read_lines(self.path, TextFields, fix="remove that line: its text is generated again"):
            check_part(record.pop("plan", None), self.digest, self.path)
            records[tuple(record[name] for name in KEY)] = record
        return records

    def append(self, records: Sequence[dict[str, Any]]) -> None:
        """Adds records, and returns once they are on disk."""
        append_lines(self.path, [{**record, "plan": self.digest} for record in records])
