"""`python -m recipes demo-corpus`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PACKAGED = Path(__file__).parents[2] / "saekit" / "data" / "demo_corpus.parquet"


def demo_corpus(
    out: Annotated[Path, typer.Option(help="The Parquet file to write.", show_default="saekit's own")] = PACKAGED,
    seed: int = 0,
    limit: Annotated[int | None, typer.Option(help="Write only so many documents, to try it.")] = None,
) -> None:
    """Sample the demo corpus from the default model."""
    from .corpus import write_demo_corpus

    write_demo_corpus(out, seed, limit)
