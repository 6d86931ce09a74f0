"""What a steering panel has shown, as text, as a table and as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..arguments import check_path
from ..atomic_io import atomic_write, write_json
from .base import check_choice
from .steering_request import Condition


def frame_of(runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row per run, turn and condition: the message, the reply and its metrics, and the settings."""
    rows = []
    for n, run in enumerate(runs):
        settings = {name: run[name] for name in ("temperature", "seed", "positions", "chat")}
        for turn, exchange in enumerate(run["exchanges"]):
            for saved, reply in zip(run["conditions"], exchange["replies"], strict=True):
                what = Condition.from_dict(saved).in_words(run["unit"])
                texts = {"message": exchange["user"], "text": "".join(reply["tokens"])}
                metrics = {"nll": reply["mean_nll"], "repetition": reply["repetition"], "present": reply["present"]}
                size = {"n_tokens": len(reply["tokens"]), "end": reply["end"]}
                rows.append(
                    {
                        "run": n,
                        "turn": turn,
                        "condition": saved["name"],
                        "what": what,
                        **texts,
                        **metrics,
                        **size,
                        **settings,
                    }
                )
    return pd.DataFrame(rows)


def export(runs: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """The path, once the runs are in it: as they are in .json, as `frame_of` in .csv."""
    check_path("path", path)
    path = Path(path)
    check_choice("kind of file", path.suffix, [".json", ".csv"])
    if path.suffix == ".json":
        write_json(path, list(runs))
    else:
        with atomic_write(path) as part:
            frame_of(runs).to_csv(part, index=False)
    return path


def lines_of(
    conditions: Sequence[Condition], unit: str, prompt: str, exchanges: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The conditions in words, then each message with its replies."""
    width = max((len(c.name) for c in conditions), default=0)
    lines = [f"  {c.name:<{width}}  {c.in_words(unit)}" for c in conditions]
    for exchange in exchanges or [{"user": prompt, "replies": []}]:
        lines.append(f"> {exchange['user']}")
        for c, reply in zip(conditions, exchange["replies"], strict=False):
            nll = "" if reply["mean_nll"] is None else f"  [nll {reply['mean_nll']:.2f}]"
            lines.append(f"  {c.name:<{width}}  {''.join(reply['tokens'])}{nll}")
    return lines
