"""The text of tokens in vocabularies that spell it in ways of their own: words that end in </w>, bytes as letters."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from saekit.models.token_text import TextPieces, read_vocabulary, strings_of

TEXT = "the golden gate bridge is red"


def with_suffix() -> Any:
    """A BPE whose words end in </w>, as OpenAI's first GPT has it."""
    own = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    own.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    own.decoder = decoders.BPEDecoder(suffix="</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=60, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    own.train_from_iterator([TEXT] * 5, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=own, unk_token="<unk>")


def test_words_that_end_in_a_suffix_keep_their_spaces() -> None:
    tokenizer = with_suffix()
    vocabulary = read_vocabulary(tokenizer, len(tokenizer))
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert vocabulary.ends_without_space and not vocabulary.begins_without_space
    assert "".join(vocabulary.strings(ids)) == TEXT == tokenizer.decode(ids)
    pieces = TextPieces(vocabulary, ids[:2])
    assert tokenizer.decode(ids[:2]) + "".join(map(pieces.push, ids[2:])) == TEXT  # and no space at the end


def test_bytes_that_do_not_decode_alone_are_read_from_the_vocabulary() -> None:
    tokenizer = ByT5Tokenizer()
    vocabulary = read_vocabulary(tokenizer, len(tokenizer))
    text = "Crème 中文 🦙"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert "".join(strings_of(vocabulary.bytes_of(ids))) == text
    assert vocabulary.shown[ids[2]] == "<0xC3>"
