"""The default SAEs: three widths on one layer of the default model, from text to packaged weights with their cards."""

MAIN_LAYER = 15
"""The layer of the packaged SAEs, and of the recipe unless another is asked for."""
