"""Which side of the split a document is on: training or held out.

The side follows from a hash of the document's text alone, white space aside, so a document stays on its side whatever
is added to the text later. The demo corpus and the default SAEs' training text share this split.
"""

from __future__ import annotations

import hashlib

HELD_OUT = 0.05
"""Fraction of documents that are held out."""


def normalised(text: str) -> str:
    """The text with every run of white space as one space."""
    return " ".join(text.split())


def hash_fraction(text: str, purpose: str) -> float:
    """A number from 0 to 1 that depends on the text and the purpose alone."""
    digest = hashlib.sha256(f"{purpose}\0{normalised(text)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def held_out_fraction(text: str) -> float:
    """The document's number for the split: it is held out below HELD_OUT."""
    return hash_fraction(text, "held out")


def is_held_out(text: str) -> bool:
    """Whether a document is held out."""
    return held_out_fraction(text) < HELD_OUT
