"""Text to token windows. Two things hold everywhere: every token of every document appears exactly once, in order; and
two documents are never in one window without a separator between them.

A model is used for its tokenizer and its special ids, never run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ..errors import ConfigError, ContextLengthError, DataError
from ..models import LanguageModel
from .documents import Corpus, Document
from .windows import Windows

_TEXTS_PER_CALL = 256
_Window = tuple[np.ndarray, np.ndarray]
"""The tokens of one window and their document numbers."""


def tokenize(
    corpus: Corpus | Iterable[str],
    model: LanguageModel,
    *,
    length: int = 128,
    pack: bool = False,
    max_tokens: int | None = None,
    progress: bool = False,
) -> Windows:
    """The whole corpus as token windows, in memory.

    With `pack=False` each document is cut into windows that begin with BOS, and no window holds two documents. With
    `pack=True` documents are joined with EOS between them and every window but the last is full. `max_tokens` stops
    there exactly, cutting the last window if need be; tokens that begin or separate documents count.

    Raises ContextLengthError when `length` is beyond the model's context, DataError when the corpus holds no token.

    >>> sk.tokenize(sk.load_corpus(["a short text", "and another"]), model, length=16, max_tokens=20).n_tokens <= 20
    True
    """
    if max_tokens is not None and max_tokens < 2:
        raise ConfigError("max_tokens leaves no room for text", got=max_tokens, accepted="an integer of at least 2")
    parts: list[Windows] = []
    n_tokens = 0
    with tqdm(desc="tokenizing", unit=" tokens", unit_scale=True, total=max_tokens, disable=not progress) as bar:
        for part in iter_windows(corpus, model, length=length, pack=pack):
            if max_tokens is not None and n_tokens + part.n_tokens >= max_tokens:
                parts.append(_first_tokens(part, max_tokens - n_tokens, model.pad_id))
                bar.update(parts[-1].n_tokens)
                break
            parts.append(part)
            n_tokens += part.n_tokens
            bar.update(part.n_tokens)
    return Windows.concatenate([p for p in parts if len(p)])


def iter_windows(
    corpus: Corpus | Iterable[str],
    model: LanguageModel,
    *,
    length: int = 128,
    pack: bool = False,
    chunk_windows: int = 1024,
) -> Iterator[Windows]:
    """The corpus as token windows, `chunk_windows` at a time; for text that does not fit in memory.

    Document numbers run on from chunk to chunk and count every document of the corpus, the empty ones too. The
    arguments and errors are those of `tokenize`.

    >>> chunks = sk.iter_windows(corpus, model, length=16, chunk_windows=8)
    >>> sum(len(chunk) for chunk in chunks) == len(sk.tokenize(corpus, model, length=16))
    True
    """
    if isinstance(corpus, str):
        raise ConfigError(
            "one string is not a corpus: its documents would be single letters",
            got=corpus[:40],
            accepted="a Corpus, or several texts",
            fix="pass sk.load_corpus(...), or [text]",
        )
    if length < 2:
        raise ConfigError("the window length leaves no room for text after BOS", got=length, accepted="at least 2")
    if length > model.n_ctx:
        raise ContextLengthError(
            f"windows of {length} tokens are longer than the context of {model.name}",
            got=length,
            accepted=f"2 to {model.n_ctx}",
            fix=f"pass length={min(128, model.n_ctx)}",
        )
    if chunk_windows < 1:
        raise ConfigError("chunk_windows is not positive", got=chunk_windows, accepted="an integer of at least 1")
    return _iter_windows(corpus, model, length, pack, chunk_windows)


def _iter_windows(
    corpus: Corpus | Iterable[str], model: LanguageModel, length: int, pack: bool, chunk_windows: int
) -> Iterator[Windows]:
    labels: dict[int, dict[str, object]] = {}
    columns: list[str] = list(corpus.label_names) if isinstance(corpus, Corpus) else []
    documents = _token_ids(corpus, model, labels)
    windows = _packed(documents, length, model) if pack else _cut(documents, length, model.bos_id)
    any_yet = False
    while chunk := list(islice(windows, chunk_windows)):
        any_yet = True
        part = _table(chunk, length, model.pad_id, labels, columns)
        first_open = int(part.documents.max())  # later chunks may hold more of this document, not of those before it
        for number in [n for n in labels if n < first_open]:
            del labels[number]
        yield part
    if not any_yet:
        raise DataError(
            "the corpus holds no token", got="documents without text", fix="check the text column and the filter"
        )


def _token_ids(
    corpus: Corpus | Iterable[str], model: LanguageModel, labels: dict[int, dict[str, object]]
) -> Iterator[tuple[int, np.ndarray]]:
    """(document number, ids without an added BOS) of every document that has tokens; fills `labels` as it goes."""
    documents = (d if isinstance(d, Document) else Document(d, {}) for d in corpus)
    number = 0
    while batch := list(islice(documents, _TEXTS_PER_CALL)):
        try:
            encoded = model.tokenizer([d.text for d in batch], add_special_tokens=False, verbose=False)["input_ids"]
        except (TypeError, UnicodeEncodeError) as e:
            raise DataError(
                f"the tokenizer of {model.name} refuses the text of documents {number} to {number + len(batch) - 1}",
                got=e,
                accepted="strings of valid Unicode (no lone surrogates)",
            ) from e
        for document, ids in zip(batch, encoded, strict=True):
            labels[number] = dict(document.labels)
            if ids:
                yield number, np.asarray(ids, dtype=np.int32)
            number += 1


def _cut(documents: Iterable[tuple[int, np.ndarray]], length: int, bos_id: int) -> Iterator[_Window]:
    """Windows of one document each. A window whose text begins with BOS, as chat does, gets no second one."""
    for number, ids in documents:
        start = 0
        while start < len(ids):
            own_bos = int(ids[start] == bos_id)
            piece = ids[start : start + length - 1 + own_bos]
            tokens = piece if own_bos else np.concatenate([[bos_id], piece])
            where = np.full(len(tokens), number, dtype=np.int32)
            if not own_bos:
                where[0] = -1
            yield tokens, where
            start += len(piece)


def _packed(documents: Iterable[tuple[int, np.ndarray]], length: int, model: LanguageModel) -> Iterator[_Window]:
    """Full windows of documents joined with EOS; the last one may be shorter."""
    separator, nothing = np.array([model.eos_id], dtype=np.int32), np.empty(0, dtype=np.int32)
    tokens, where, between = nothing, nothing, nothing
    for number, ids in chain(documents, [(-1, nothing)]):
        if number >= 0:
            tokens = np.concatenate([tokens, between, ids])
            where = np.concatenate([where, np.full(len(between), -1, np.int32), np.full(len(ids), number, np.int32)])
            between = separator
        start = 0
        while len(tokens) - start >= length or (number < 0 and start < len(tokens)):
            own_bos = int(tokens[start] == model.bos_id)
            n = length - 1 + own_bos
            piece, from_ = tokens[start : start + n], where[start : start + n]
            if not own_bos:
                piece, from_ = np.concatenate([[model.bos_id], piece]), np.concatenate([[-1], from_])
            yield piece, from_
            start += n
        tokens, where = tokens[start:], where[start:]


def _table(
    windows: list[_Window], length: int, pad_id: int, labels: dict[int, dict[str, object]], columns: list[str]
) -> Windows:
    tokens = np.full((len(windows), length), pad_id, dtype=np.int32)
    documents = np.full((len(windows), length), -1, dtype=np.int32)
    lengths = np.array([len(t) for t, _ in windows], dtype=np.int32)
    for row, (ids, where) in enumerate(windows):
        tokens[row, : len(ids)], documents[row, : len(ids)] = ids, where
    present = np.unique(documents[documents >= 0])
    frame = pd.DataFrame([labels[int(n)] for n in present], index=pd.Index(present, name="document"))
    frame = frame.reindex(columns=[*columns, *(c for c in frame.columns if c not in columns)])
    return Windows(torch.from_numpy(tokens), torch.from_numpy(documents), torch.from_numpy(lengths), frame)


def _first_tokens(windows: Windows, n_tokens: int, pad_id: int) -> Windows:
    """The first `n_tokens` tokens of `windows`; a last window that would hold no text is left out."""
    ends = torch.cumsum(windows.lengths.long(), 0)
    n_rows = min(int(torch.searchsorted(ends, n_tokens)) + 1, len(windows))
    left = n_tokens - (int(ends[n_rows - 2]) if n_rows > 1 else 0)
    if left < 2:
        n_rows, left = n_rows - 1, windows.length
    cut = windows.select(slice(n_rows))
    if n_rows and left < int(cut.lengths[-1]):
        tokens, documents, lengths = cut.tokens.clone(), cut.documents.clone(), cut.lengths.clone()
        tokens[-1, left:], documents[-1, left:], lengths[-1] = pad_id, -1, left
        cut = Windows(tokens, documents, lengths, cut.labels).select(slice(None))  # drops labels no longer needed
    return cut
