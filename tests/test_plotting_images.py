"""A grid of pictures puts every pixel where it belongs, on one scale, and refuses what are not pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from saekit.errors import MismatchError
from saekit.plotting import image_grid
from saekit.plotting.style import TEXT


@pytest.mark.parametrize("n_columns", [1, 3, 5, 99])
def test_every_pixel_is_where_it_belongs(n_columns):
    images = torch.randn(5, 4, 6)
    (heat,) = image_grid(images, "t", n_columns=n_columns).data
    columns = min(n_columns, 5)
    for i in range(5):
        top, left = i // columns * 5, i % columns * 7
        assert np.array_equal(heat.z[top : top + 4, left : left + 6], images[i].numpy())
        assert (heat.customdata[top : top + 4, left : left + 6] == i).all()
    assert np.isfinite(heat.z).sum() == images.numel(), "the rest is empty"


def test_one_scale_with_zero_in_the_middle():
    images = np.array([[[0.5, -2.0]], [[0.0, 1.0]]])
    (heat,) = image_grid(images, "t").data
    assert (heat.zmin, heat.zmax) == (-2, 2) and heat.colorscale[2] == (0.5, "rgba(224,108,0,0)")
    (heat,) = image_grid(images, "t", limit=1.0).data
    assert (heat.zmin, heat.zmax) == (-1, 1)


def test_names_stand_at_their_rows_and_columns():
    fig = image_grid(np.ones((6, 3, 5)), "<b>", "a < b", n_columns=3, row_names=["x", "<i>y"], column_names="abc")
    assert fig.layout.title.text == "<b>&lt;b&gt;</b>" and fig.layout.title.subtitle.text == "a &lt; b"
    assert list(fig.layout.yaxis.tickvals) == [1, 5] and list(fig.layout.yaxis.ticktext) == ["x", "&lt;i&gt;y"]
    assert list(fig.layout.xaxis.tickvals) == [2, 8, 14] and list(fig.layout.xaxis.ticktext) == ["a", "b", "c"]
    assert fig.layout.template.layout.font.color == TEXT and fig.layout.template.layout.plot_bgcolor == "rgba(0,0,0,0)"


def test_a_hundred_small_pictures_stay_small():
    assert len(image_grid(torch.randn(128, 8, 8), "t").to_json()) < 140_000


@pytest.mark.parametrize("shape", [(5, 64), (0, 8, 8), (8, 8)])
def test_refuses_what_is_not_a_stack_of_pictures(shape):
    with pytest.raises(MismatchError, match="not a stack of pictures"):
        image_grid(np.zeros(shape), "t")


@pytest.mark.parametrize("names", [{"row_names": ["a"]}, {"column_names": ["a", "b", "c"]}])
def test_refuses_names_that_do_not_fit(names):
    with pytest.raises(MismatchError, match="not as many names as"):
        image_grid(np.zeros((4, 8, 8)), "t", n_columns=2, **names)
