"""What a model reads of a document: its text, its conversation in the model's template, or its token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError, DataError
from .documents import Document

if TYPE_CHECKING:
    from ..models import LanguageModel


def document_text(document: Document, model: LanguageModel) -> str:
    """The text a model is given of a document; a conversation is written in the model's chat template.

    ConfigError for a conversation and a model without a template, or one that refuses these turns.

    >>> from saekit.corpus.document_tokens import document_text
    >>> document_text(sk.Document("a cat"), model)
    'a cat'
    """
    if not document.turns:
        return document.text
    fix = "read the words alone: load_corpus(..., text='messages.content'), or pass a model tuned for chat"
    if getattr(model.tokenizer, "chat_template", None) is None:
        raise ConfigError(
            f"the corpus holds conversations and {model.name} has no chat template",
            got=f"turns of {', '.join(dict.fromkeys(t['role'] for t in document.turns))}",
            accepted="a model with a chat template, or texts",
            fix=fix,
        )
    try:
        return str(model.tokenizer.apply_chat_template([dict(t) for t in document.turns], tokenize=False))
    except Exception as e:  # templates raise jinja's errors, and their own
        raise ConfigError(
            f"the chat template of {model.name} refuses a conversation", got=f"{e}: {document.text[:80]!r}", fix=fix
        ) from e


def encode_documents(documents: Sequence[Document], model: LanguageModel) -> list[tuple[list[int], dict[int, bytes]]]:
    """For each document its token ids without an added BOS, and the tokens that read otherwise than the vocabulary.

    Token ids that a document came with are kept as they are. DataError for ids outside the vocabulary.
    """
    texts = [document_text(d, model) for d in documents if d.token_ids is None]
    encoded = iter(model.tokenize_with_readings(texts) if texts else [])
    return [next(encoded) if d.token_ids is None else (_checked(d.token_ids, model), {}) for d in documents]


def _checked(ids: tuple[int, ...], model: LanguageModel) -> list[int]:
    if bad := [i for i in ids if not 0 <= i < model.d_vocab]:
        raise DataError(
            f"a document holds token ids outside the vocabulary of {model.name}",
            got=", ".join(map(str, bad[:5])),
            accepted=f"0 to {model.d_vocab - 1}",
            fix="pass the model whose tokenizer made these ids, or the text itself",
        )
    return list(ids)
