"""The text half of a language model: tokens, their text and what is true of them; the model itself is not run.

What BOS, end tokens and special tokens are is found once (`facts`), and so is what each token reads (`vocabulary`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from ..errors import ConfigError, DataError
from .facts import ModelFacts, find_facts
from .readings import find_readings
from .token_text import Vocabulary, read_vocabulary, strings_of


class TextModel:
    """A model's tokenizer and the facts about it: what `LanguageModel` knows of text."""

    def __init__(self, bridge: Any, name: str, tokenizer: Any = None) -> None:
        self.bridge = bridge
        self.name = name
        self._tokenizer = tokenizer
        self.d_vocab = int(bridge.cfg.d_vocab)

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer; DataError when the model came without one."""
        if not self.has_tokenizer:
            raise DataError(
                f"{self.name} has no tokenizer",
                got="a model alone",
                accepted="token ids, or a model with a Hugging Face tokenizer",
                fix="pass one: sk.load_model(..., tokenizer=...)",
            )
        return self.bridge.tokenizer if self._tokenizer is None else self._tokenizer

    @property
    def has_tokenizer(self) -> bool:
        """Whether text can be given to the model."""
        return self._tokenizer is not None or self.bridge.tokenizer is not None

    @cached_property
    def facts(self) -> ModelFacts:
        """What is true of the model and its tokenizer, found by asking and measuring (`ModelFacts`)."""
        return find_facts(self.bridge, self.tokenizer if self.has_tokenizer else None)

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of special tokens: BOS, EOS, padding, marks of turns and whatever else the tokenizer flags."""
        return self.facts.special_ids

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text; None where the tokenizer has none."""
        return self.facts.bos_id

    @property
    def eos_id(self) -> int | None:
        """The token that ends a document; None where there is none. A reply ends at any of `facts.end_ids`."""
        return self.facts.eos_id

    @property
    def pad_id(self) -> int:
        """Fills rows of unequal length."""
        return self.facts.pad_id

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What each token stands for: `vocabulary.shown[i]` is token i on its own.

        >>> model.vocabulary.shown[model.bos_id]
        '<bos>'
        """
        return read_vocabulary(self.tokenizer, self.d_vocab)

    def begins_with_bos(self, prepend_bos: bool | None = None) -> bool:
        """Whether BOS is put before a text: what is asked for, or where that is None what is true of the model.

        ConfigError when it is asked for and the tokenizer has none.
        """
        if prepend_bos and self.facts.bos_id is None:
            raise ConfigError(
                f"the tokenizer of {self.name} has no BOS",
                got="prepend_bos=True",
                accepted="False or None",
                fix="leave prepend_bos out; no other token takes its place",
            )
        return self.facts.prepend_bos if prepend_bos is None else prepend_bos

    def tokenize(self, text: str, bos: bool | None = None) -> list[int]:
        """Token ids of `text`, begun with BOS where the model's texts begin with it (`facts.prepend_bos`).

        `bos` True or False decides otherwise. A text that begins with BOS already gets no second one.

        >>> model.tokenize("ab") == [model.bos_id, *model.tokenize("ab", bos=False)]
        True
        """
        ids = [int(i) for i in self.tokenizer(check_text(text), add_special_tokens=False)["input_ids"]]
        bos_id = self.facts.bos_id
        return [bos_id, *ids] if self.begins_with_bos(bos) and bos_id is not None and ids[:1] != [bos_id] else ids

    def tokenize_next(self, text: str) -> list[int]:
        """Token ids of `text` where it goes on from other text: a tokenizer that puts a space of its own before a text
        puts none there.

        >>> model.tokenize_next(" cat") == model.tokenize(" cat", bos=False)
        True
        """
        before = "a" if text[:1].isspace() else "\n"
        first, ids = self.tokenize(before, bos=False), self.tokenize(before + text, bos=False)
        return ids[len(first) :] if ids[: len(first)] == first else self.tokenize(text, bos=False)

    def tokenize_with_strings(self, text: str, bos: bool | None = None) -> tuple[list[int], list[str]]:
        """The token ids of `text`, and what each reads; without BOS the strings are together exactly `text`.

        >>> model.tokenize_with_strings("a cat", bos=False)[1]
        ['a', ' ', 'c', 'a', 't']
        """
        ids = self.tokenize(text, bos)
        pieces = self.vocabulary.bytes_of(ids, True, self.special_ids)
        [(own, readings)] = self.tokenize_with_readings([text])
        for place, piece in readings.items():
            pieces[len(ids) - len(own) + place] = piece
        return ids, strings_of(pieces)

    def tokenize_with_readings(self, texts: Sequence[str]) -> list[tuple[list[int], dict[int, bytes]]]:
        """For each text its token ids without BOS, and the tokens that read otherwise than the vocabulary says."""
        tokenizer, special = self.tokenizer, self.special_ids
        out: list[tuple[list[int], dict[int, bytes]]] = []
        texts = [check_text(text) for text in texts]
        encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        for text, ids in zip(texts, encoded, strict=True):
            readings: dict[int, bytes] = {}
            same = b"".join(self.vocabulary.bytes_of(ids, True, special)) == text.encode("utf8", "surrogatepass")
            if not same and getattr(tokenizer, "is_fast", False):
                readings = find_readings(text, *self.tokenize_with_offsets(text), self.vocabulary, special)
            out.append(([int(i) for i in ids], readings))
        return out

    def tokenize_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids without BOS, and the (start, end) characters of `text` that each covers."""
        text = check_text(text)
        out = self.tokenizer(text, add_special_tokens=False, verbose=False, return_offsets_mapping=True)
        return [int(i) for i in out["input_ids"]], [(int(a), int(b)) for a, b in out["offset_mapping"]]

    def chat_prompt(self, message: str | Sequence[Mapping[str, str]]) -> str:
        """The conversation in the model's own template, ready for its answer.

        `message` is the user's text, or turns {"role": ..., "content": ...}. ConfigError without a template.
        """
        if getattr(self.tokenizer, "chat_template", None) is None:
            raise ConfigError(
                f"{self.name} has no chat template", fix="pass chat=False, or use an instruction-tuned model"
            )
        turns = [{"role": "user", "content": message}] if isinstance(message, str) else list(message)
        check_turns(turns)
        turns = [dict(turn) for turn in turns]
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        except Exception as e:  # templates raise jinja's errors, and their own
            raise ConfigError(
                f"the chat template of {self.name} refuses this conversation",
                got=f"{e}; turns of {', '.join(str(turn['role']) for turn in turns)}",
                accepted="what the model's template takes: often user and assistant in turn, beginning with user",
                fix="change the turns, put a system's words into the first message, or pass chat=False",
            ) from e

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """The text of `ids` without special tokens.

        >>> model.decode(model.tokenize("a cat"))
        'a cat'
        """
        special = self.special_ids
        ordinary = [i for i in _as_list(ids) if i not in special]
        return b"".join(self.vocabulary.bytes_of(ordinary)).decode("utf8", "replace")

    def token_strings(self, ids: Sequence[int] | Tensor, begins: bool = True) -> list[str]:
        """One string a token that together are the text of `ids`, spaces kept.

        A character spelt in several tokens belongs to the first of them, and the others are empty; bytes that are part
        of no whole character are shown as <0xE2>. `begins` says that a text begins with `ids`: some tokenizers put a
        space of their own there. For tokens that stand alone, see `vocabulary.shown`.

        >>> model.token_strings(model.tokenize("ab", bos=False))
        ['a', 'b']
        """
        return self.vocabulary.strings(_as_list(ids), begins, self.special_ids)


def check_text(text: Any) -> str:
    """The text as a tokenizer takes it, halves of a character being replaced; DataError for what is no text."""
    if not isinstance(text, str):
        raise DataError(
            "this is no text", got=f"{type(text).__name__}: {text!r:.80}", accepted="a string", fix="pass str(...)"
        )
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def check_turns(turns: Sequence[Any]) -> None:
    """DataError for what is no turn of a conversation."""
    for turn in turns:
        if not isinstance(turn, Mapping) or not all(isinstance(turn.get(part), str) for part in ("role", "content")):
            raise DataError(
                "this is no turn of a conversation",
                got=f"{turn!r:.200}",
                accepted='{"role": "user", "content": "..."}',
                fix="pass a list of such turns, or the user's message as a string",
            )


def _as_list(ids: Sequence[int] | Tensor) -> list[int]:
    return ids.reshape(-1).tolist() if isinstance(ids, Tensor) else [int(i) for i in ids]
