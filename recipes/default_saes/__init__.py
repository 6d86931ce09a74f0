"""The default SAEs: three widths on one layer of the default model, from text to packaged weights with their cards."""
