"""Text that the default model writes itself, sampled with a seed."""
