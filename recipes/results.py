"""Results that are kept as JSON while a recipe runs, so that a run that was stopped resumes; and their tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from saekit.json_files import read_json


def load_results(path: Path) -> dict[str, Any]:
    """What an earlier run wrote to `path`; empty where there was none."""
    return dict(read_json(path)) if path.exists() else {}


def without_nan(value: Any) -> Any:
    """The value with null for every number that is not finite, which JSON cannot hold."""
    if isinstance(value, dict):
        return {key: without_nan(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def markdown_table(frame: pd.DataFrame) -> str:
    """The table in Markdown, without its index."""
    head = "| " + " | ".join(str(c).strip() for c in frame.columns) + " |"
    body = ["| " + " | ".join(map(str, row)) + " |" for row in frame.itertuples(index=False)]
    return "\n".join([head, "|" + "---|" * len(frame.columns), *body])


def fixed(value: float | None, digits: int = 2) -> str:
    """The number with so many decimals, or a dash where there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"
