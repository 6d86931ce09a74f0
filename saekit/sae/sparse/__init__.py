"""Sparse arithmetic on a CPU: selecting features, decoding them, and the 8-bit bounds that make selection fast."""
