"""The look of every figure, and drawing that no single result owns: a result's figures are in its own package."""

from .images import image_grid as image_grid
