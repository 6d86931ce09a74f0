"""Figure of many small pictures side by side: inputs, reconstructions, or what each feature of an SAE writes.

For data that are pictures themselves, such as handwritten digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from torch import Tensor

from ..errors import MismatchError
from .style import BLUE, ORANGE, faded, figure, literal

SCALE = [[0.0, BLUE], [0.5, faded(BLUE, 0.0)], [0.5, faded(ORANGE, 0.0)], [1.0, ORANGE]]
"""Nothing is drawn where a pixel is 0, on a light and on a dark page; signs differ in colour."""
WIDTH = 720
"""Pixels on the screen that a row of pictures is laid out for."""


def image_grid(
    images: Float[Tensor, "*stack"] | Float[np.ndarray, "*stack"],
    title: str,
    subtitle: str = "",
    *,
    n_columns: int = 16,
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
    limit: float | None = None,
) -> go.Figure:
    """The pictures [n, height, width] row by row: orange where a pixel is positive, blue negative, empty 0.

    One scale for all, so that strengths can be compared: full colour from `limit` on, or at the largest size of any
    pixel. Under the mouse stand a picture's number and the pixel's value. MismatchError for names that are not as many
    as the rows or columns.

    >>> from saekit.plotting import image_grid
    >>> rows = sae.W_dec.detach()[:20].unflatten(1, (4, 8))
    >>> fig = image_grid(rows, "Decoder rows", n_columns=10)
    >>> fig.data[0].z.shape  # 2 rows of 10, with a line of pixels between any two
    (9, 89)
    """
    pixels = images.detach().cpu().float().numpy() if isinstance(images, Tensor) else np.asarray(images, np.float32)
    if pixels.ndim != 3 or not pixels.size:
        raise MismatchError(
            "images are not a stack of pictures",
            got=pixels.shape,
            accepted="[n, height, width]",
            fix="for rows of 64 pixels pass images.reshape(-1, 8, 8)",
        )
    n, high, wide = pixels.shape
    n_columns = min(n_columns, n)
    n_rows = math.ceil(n / n_columns)
    for what, names, count in (("rows", row_names, n_rows), ("columns", column_names, n_columns)):
        if names and len(names) != count:
            raise MismatchError(f"there are not as many names as {what}", got=len(names), accepted=count)
    z = np.full((n_rows * (high + 1) - 1, n_columns * (wide + 1) - 1), np.nan, np.float32)
    number = np.zeros(z.shape, np.int32)
    for i, picture in enumerate(pixels):
        top, left = i // n_columns * (high + 1), i % n_columns * (wide + 1)
        z[top : top + high, left : left + wide] = picture
        number[top : top + high, left : left + wide] = i
    end = float(np.abs(pixels).max()) if limit is None else limit
    fig = figure(title, subtitle, height=round(96 + len(column_names[:1]) * 16 + WIDTH * z.shape[0] / z.shape[1]))
    fig.add_heatmap(
        z=z,
        customdata=number,
        zmin=-end,
        zmax=end,
        colorscale=SCALE,
        showscale=False,
        hoverongaps=False,
        hovertemplate="image %{customdata}<br>%{z:.2f}<extra></extra>",
    )
    fig.update_layout(margin={"t": 72 + len(column_names[:1]) * 16, "b": 24, "l": 16})
    axes = {"showgrid": False, "showline": False, "ticks": ""}
    fig.update_yaxes(
        **axes,
        autorange="reversed",
        scaleanchor="x",
        constrain="domain",
        tickvals=_centres(n_rows, high),
        ticktext=[literal(name) for name in row_names],
        showticklabels=bool(row_names),
    )
    fig.update_xaxes(
        **axes,
        side="top",
        constrain="domain",
        constraintoward="left",
        tickvals=_centres(n_columns, wide),
        ticktext=[literal(name) for name in column_names],
        showticklabels=bool(column_names),
        tickangle=0,
    )
    return fig


def _centres(n: int, size: int) -> list[float]:
    return [i * (size + 1) + (size - 1) / 2 for i in range(n)]
