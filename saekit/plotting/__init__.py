"""The look of every figure, and drawing that knows no result: each result's own figures stand in its package."""

from .images import image_grid as image_grid
