"""What tokens stand for as text: the bytes of each token of a vocabulary, and the text of a sequence.

A token decoded alone can lose its leading space (Llama-2's tokenizer strips the beginning of whatever it decodes) and a
part of a character decodes to a replacement mark. So each token is decoded after another one, and where that gives no
whole character its bytes are read from the vocabulary: `<0xF0>` in vocabularies with byte fallback, GPT-2's printable
stand-ins in byte-level ones. Bytes are joined before they become characters.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool

from .text_matching import TokenText, first_characters, join_tokens

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_UNDECODED = re.compile("[\udc80-\udcff]")


class Vocabulary:
    """The bytes of every token of a vocabulary, and what follows from them. Made by `read_vocabulary`.

    >>> model.vocabulary.text(model.tokenize("a cat", bos=False)).text
    'a cat'
    """

    def __init__(
        self, pieces: Sequence[bytes | None], begins_without_space: bool = False, ends_without_space: bool = False
    ) -> None:
        self._pieces = pieces
        self.ends_without_space = ends_without_space
        """Whether the space behind the last word of a text is the vocabulary's own, as where words end in </w>."""
        self.begins_without_space = begins_without_space
        """Whether the space before the first word of a text is the tokenizer's own, not the text's."""

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def pieces(self) -> list[bytes | None]:
        """The bytes of each token; None for ids that the tokenizer does not know."""
        return list(self._pieces)

    @cached_property
    def shown(self) -> list[str]:
        """Each token on its own, leading space kept; bytes that are no whole character as <0xE2>.

        >>> model.vocabulary.shown[model.tokenize("a", bos=False)[0]]
        'a'
        """
        return [f"<unused {i}>" if p is None else show_bytes(p) for i, p in enumerate(self._pieces)]

    @cached_property
    def partial(self) -> Bool[np.ndarray, " d_vocab"]:
        """Whether each token begins or ends inside a character."""
        return np.array([p is not None and bool(_UNDECODED.search(_decoded(p))) for p in self._pieces])

    def bytes_of(self, ids: Iterable[int], begins: bool = True, special: Collection[int] = ()) -> list[bytes]:
        """The bytes of each token of a sequence; `begins` says that a text begins with it, and is all of it.

        `special` are ids that stand before a text without being part of it.
        """
        ids = list(ids)
        pieces = [self._piece(i) for i in ids]
        if begins and self.begins_without_space:
            first = next((n for n, i in enumerate(ids) if i not in special), None)
            if first is not None:
                pieces[first] = pieces[first].removeprefix(b" ")
        if begins and self.ends_without_space and pieces:
            pieces[-1] = pieces[-1].removesuffix(b" ")
        return pieces

    def text(self, ids: Iterable[int], begins: bool = True, special: Collection[int] = ()) -> TokenText:
        """The text of a sequence, and the characters of it that each token covers."""
        return join_tokens(self.bytes_of(ids, begins, special))

    def strings(self, ids: Iterable[int], begins: bool = True, special: Collection[int] = ()) -> list[str]:
        """One string a token that together are the text: see `strings_of`."""
        return strings_of(self.bytes_of(ids, begins, special))

    def _piece(self, i: int) -> bytes:
        piece = self._pieces[i] if 0 <= i < len(self._pieces) else None
        return f"<unused {i}>".encode() if piece is None else piece


def strings_of(pieces: Sequence[bytes]) -> list[str]:
    """One string a token that together are the text. A character spelt in several tokens belongs to the first of them,
    and the others are empty; bytes that are part of no whole character are shown as <0xE2>.

    >>> from saekit.models.token_text import strings_of
    >>> strings_of([b"Yes", b" \\xf0\\x9f", b"\\xa6", b"\\x99!", b"\\xe9"])
    ['Yes', ' 🦙', '', '!', '<0xE9>']
    """
    text = join_tokens(pieces).text
    begins = [*first_characters(text, pieces).tolist(), len(text)]
    return [show_undecoded(text[a:b]) for a, b in pairwise(begins)]


def show_bytes(piece: bytes) -> str:
    """A token on its own; bytes that are no whole character as <0xE2>."""
    return show_undecoded(_decoded(piece))


def show_undecoded(text: str) -> str:
    """`text` with every byte that could not be decoded as <0xE2>."""
    return _UNDECODED.sub(lambda m: f"<0x{ord(m[0]) & 0xFF:02X}>", text)


def _decoded(piece: bytes) -> str:
    return piece.decode("utf8", "surrogateescape")


def read_vocabulary(tokenizer: Any, n: int) -> Vocabulary:
    """The Vocabulary of a Hugging Face tokenizer, for the ids 0 to n - 1.

    >>> from saekit.models.token_text import read_vocabulary
    >>> read_vocabulary(model.tokenizer, 128).shown[:2]
    ['<bos>', '<eos>']
    """
    names = [_name(tokenizer, i) for i in range(n)]
    known = [i for i, name in enumerate(names) if name is not None]
    anchor = _anchor(tokenizer, names)
    before = "" if anchor is None else _decode(tokenizer, [[anchor]])[0]
    after = _decode(tokenizer, [[i] if anchor is None else [anchor, i] for i in known])
    pieces: list[bytes | None] = [None] * n
    spaced: list[int] = []
    for i, text in zip(known, after, strict=True):
        whole = text[len(before) :] if text.startswith(before) else _decode(tokenizer, [[i]])[0]
        pieces[i] = _piece(whole, str(names[i]))
        if whole.startswith(" ") and whole.strip():
            spaced.append(i)
    ends_words = _ends_words(tokenizer, anchor, known, pieces)
    for i in ends_words:
        pieces[i] = (pieces[i] or b"") + b" "
    return Vocabulary(pieces, _strips_space(tokenizer, pieces, spaced), bool(ends_words))


def _piece(text: str, name: str) -> bytes:
    """The bytes of a token that reads `text` after another one and is called `name` in the vocabulary."""
    if not text and len(name) == 1 and 0x80 <= ord(name) <= 0xFF:  # bytes that do not decode are dropped
        return bytes([ord(name)])
    if "\ufffd" in text and "\ufffd" not in name:
        if byte := _BYTE_TOKEN.fullmatch(name):
            return bytes([int(byte[1], 16)])
        if all(c in _BYTE_OF for c in name):
            return bytes(_BYTE_OF[c] for c in name)
    return text.encode("utf8", "surrogatepass")


def _ends_words(tokenizer: Any, anchor: int | None, known: Sequence[int], pieces: Sequence[bytes | None]) -> list[int]:
    """The tokens that put a space between themselves and whatever comes next, as those do that end in </w>."""
    if anchor is None:
        return []
    once, twice = _decode(tokenizer, [[anchor], [anchor, anchor]])
    if twice != once + once:  # words begin with their space
        return []

    def found(ids: Sequence[int]) -> list[int]:
        texts = _decode(tokenizer, [[anchor, i, anchor] for i in ids])
        read = [(pieces[i] or b"").decode("utf8", "replace") for i in ids]
        return [i for i, text, piece in zip(ids, texts, read, strict=True) if text == f"{once}{piece} {once}"]

    return found(known) if found(known[:: max(1, len(known) // 256)]) else []


def _strips_space(tokenizer: Any, pieces: Sequence[bytes | None], spaced: Sequence[int]) -> bool:
    """Whether tokens that begin with a space lose it where a text begins."""
    sample = spaced[:64]
    alone = _decode(tokenizer, [[i] for i in sample])
    lost = [text == (pieces[i] or b"").decode("utf8", "replace")[1:] for i, text in zip(sample, alone, strict=True)]
    return bool(lost) and all(lost)


def _anchor(tokenizer: Any, names: Sequence[str | None]) -> int | None:
    """A token to decode others after: a plain letter or word that reads the same wherever it stands."""
    plain = [i for i, name in enumerate(names) if name is not None and name.isascii() and name.isalnum()]
    for i in plain[:256]:
        once, twice = _decode(tokenizer, [[i], [i, i]])
        if once.isalnum() and twice.startswith(once) and twice.endswith(once) and len(twice) >= 2 * len(once):
            return i
    return None


def _decode(tokenizer: Any, ids: list[list[int]]) -> list[str]:
    if not ids:  # which batch_decode takes for one empty text
        return []
    texts = tokenizer.batch_decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return [str(text) for text in texts]


def _name(tokenizer: Any, i: int) -> str | None:
    try:
        name = tokenizer.convert_ids_to_tokens(i)
    except (IndexError, KeyError, OverflowError):
        return None
    return None if name is None else str(name)


class TextPieces:
    """Turns new tokens into printable text. Bytes of a character that is not complete are held back.

    Bytes of a last character that is never completed are left out, and so is what the prompt's last bytes begin.
    """

    def __init__(self, vocabulary: Vocabulary, prompt_ids: Sequence[int], special: Collection[int] = ()) -> None:
        self._vocabulary, self._special = vocabulary, special
        self._decoder = codecs.getincrementaldecoder("utf8")("replace")
        self._space = ""  # of the last word, where it may be the vocabulary's own
        for token in prompt_ids[-4:]:
            self.push(token)

    def push(self, token: int) -> str:
        """What the token adds to the text; nothing for a special token."""
        [piece] = [b""] if token in self._special else self._vocabulary.bytes_of([token], begins=False)
        text = self._space + self._decoder.decode(piece)
        self._space = ""
        if self._vocabulary.ends_without_space and text.endswith(" "):
            text, self._space = text[:-1], " "
        return text


def _bytes_of_pieces() -> dict[str, int]:
    """GPT-2's printable stand-in of each byte, inverted: bytes that print stand for themselves, others from U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(rest)}


_BYTE_OF = _bytes_of_pieces()
