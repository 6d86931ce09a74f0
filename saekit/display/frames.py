"""Data frames as tables: a column's kind follows from its values, and `x_low`, `x_high` are the interval of x."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from .blocks import Block
from .numbers import is_number
from .tables import MAX_ROWS, Bars, Column, Intervals, Numbers, Words, table

if TYPE_CHECKING:
    import pandas as pd


def frame_table(
    frame: pd.DataFrame,
    *,
    names: str = "",
    titles: Mapping[str, str] | None = None,
    hide: Collection[str] = (),
    only: Collection[str] = (),
    pictures: Collection[str] = (),
    bars: Collection[str] = (),
    activations: Collection[str] = (),
    percents: Collection[str] = (),
    index: bool = True,
    caption: str = "",
    all_at: str = ".to_frame() has all",
) -> Block | None:
    """The first rows of a frame as a table; None for one without rows.

    `names` is the heading of the index, `titles` those of columns, `only` the columns to show, `pictures` those whose
    intervals are drawn, `bars` and `activations` those with a bar.

    >>> import pandas as pd
    >>> from saekit.display import frame_table
    >>> frame = pd.DataFrame({"auroc": [0.9], "auroc_low": [0.8], "auroc_high": [0.95]}, index=["a"])
    >>> "[0.800, 0.950]" in frame_table(frame)
    True
    """
    shown = frame.head(MAX_ROWS)
    columns: list[Column] = [Words(names, [str(i) for i in shown.index])] if index else []
    titles = titles or {}
    for name in [str(c) for c in frame.columns]:
        base = name.removesuffix("_low").removesuffix("_high")
        ends = base != name and base in frame
        if ends or name in hide or (only and name not in only):
            continue
        values: list[Any] = list(shown[name])
        title = titles.get(name, name.replace("_", " "))
        if not all(is_number(v) or _missing(v) for v in values) or all(_missing(v) for v in values):
            if any(not _missing(v) for v in values):
                columns.append(Words(title, [None if _missing(v) else v for v in values]))
            continue
        percent = name in percents
        if f"{name}_low" in frame:
            low, high = list(shown[f"{name}_low"]), list(shown[f"{name}_high"])
            picture = name in pictures
            columns.append(Intervals(title, values, percent=percent, low=low, high=high, picture=picture))
        elif name in bars or name in activations:
            columns.append(Bars(title, values, percent=percent, activation=name in activations))
        else:
            columns.append(Numbers(title, values, percent=percent))
    return table(columns, caption=caption, n_rows=len(frame), all_at=all_at)


def in_doubles(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with every float32 column as float64: the same numbers, which `round` leaves without noise.

    >>> import numpy as np, pandas as pd
    >>> from saekit.display import in_doubles
    >>> in_doubles(pd.DataFrame({"max": np.float32([50.2])})).round(1)["max"].item()
    50.2
    """
    return frame.astype({name: "float64" for name, kind in frame.dtypes.items() if kind == "float32"})


def _missing(value: Any) -> bool:
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )
