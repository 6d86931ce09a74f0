"""From token ids to text that can be shown: one token on its own, and new tokens as they are generated."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any


def token_string(tokenizer: Any, i: int) -> str:
    """What to show for one token; bytes that are not whole characters as <0xE2>."""
    text = str(tokenizer.decode([i], skip_special_tokens=False, clean_up_tokenization_spaces=False))
    if "\ufffd" not in text:
        return text
    piece = tokenizer.convert_ids_to_tokens(i)
    if re.fullmatch(r"<0x[0-9A-F]{2}>", piece):
        return str(piece)
    raw = bytes(_BYTE_OF.get(c, 0x3F) for c in piece)
    return "".join(
        c if c.isprintable() and not 0xDC80 <= ord(c) <= 0xDCFF else f"<0x{ord(c) & 0xFF:02X}>"
        for c in raw.decode("utf8", "surrogateescape")
    )


class TextPieces:
    """Turns new tokens into printable text. Bytes of a character that is not complete are held back.

    A token is decoded together with a few before it, since some tokenizers write a token's leading space only then.
    Bytes of a last character that is never completed are left out.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], prompt_ids: Sequence[int]) -> None:
        self._decode = decode
        self._recent = list(prompt_ids[-4:])
        self._n_given = len(self._whole(self._recent)[0])

    def push(self, token: int) -> str:
        """What the token adds to the text."""
        self._recent.append(token)
        text, is_whole = self._whole(self._recent)
        new = text[self._n_given :]
        self._n_given = max(self._n_given, len(text))
        if is_whole and len(self._recent) > 12:
            self._recent = self._recent[-4:]
            self._n_given = len(self._whole(self._recent)[0])
        return new

    def _whole(self, ids: Sequence[int]) -> tuple[str, bool]:
        text = self._decode(ids)
        return (text[:-1], False) if text.endswith("\ufffd") else (text, True)


def _bytes_of_pieces() -> dict[str, int]:
    """GPT-2's printable stand-in of each byte, inverted: bytes that print stand for themselves, others from U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(rest)}


_BYTE_OF = _bytes_of_pieces()
