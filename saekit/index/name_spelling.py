"""How the name of a feature is written."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 40
"""Characters of a name."""
GLYPHS = {"\n": "↵", "\r": "␍", "\t": "⇥", " ": "␣"}


def shown_word(word: str) -> str:
    """A word as it stands in a name: spaces and control characters as glyphs, punctuation in quotes.

    >>> from saekit.index.name_spelling import shown_word
    >>> [shown_word(word) for word in ("bridge", ",", "\\n", "…ing")]
    ['bridge', '“,”', '↵', '…ing']
    """
    shown = "".join(GLYPHS.get(c, c if c.isprintable() else "·") for c in word)
    bare = shown.strip("…")
    plain = any(c.isalnum() for c in shown) or not bare or all(c in GLYPHS.values() for c in bare)
    return shown if plain else f"“{shown}”"


def name_text(kind: str, by: str, words: Sequence[str], lead: Sequence[str] = ()) -> tuple[str, int]:
    """The name, at most LONGEST characters, and how many of the words are in it.

    >>> from saekit.index.name_spelling import name_text
    >>> name_text("token", "word", ["gate", "bridge"], ["golden"]), name_text("context", "after", ["said"])
    (('golden gate/bridge', 2), ('after: said', 1))
    """
    if kind == "silent" or not words:
        return by if by in ("numbers", "capitalised") else kind, 0
    before = {"mixed": "mixed: ", "context": f"{by}: "}.get(kind, "".join(f"{word} " for word in lead))
    if by in ("numbers", "capitalised"):
        before = f"{by}: "
    between = "/" if lead else ", "
    used, name = 1, before + words[0]
    for word in words[1:]:
        if len(name) + len(between) + len(word) > LONGEST:
            break
        used, name = used + 1, name + between + word
    return shortened(name), used


def shortened(name: str) -> str:
    """The name itself, or as much of it as LONGEST characters hold and `…`."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1].rstrip() + "…"
