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

from ..arguments import checks_arguments
from ..errors import ConfigError, ContextLengthError, DataError
from ..models import LanguageModel
from ..models.readings import Readings
from .document_tokens import encode_documents
from .documents import Corpus
from .sources import AnyCorpus, as_corpus
from .windows import Windows, one_type_each

_TEXTS_PER_CALL = 256
_Window = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The tokens of one window, their document numbers and their places in those documents; -1 for added ones."""


@checks_arguments
def tokenize(
    corpus: AnyCorpus,
    model: LanguageModel,
    *,
    length: int = 128,
    pack: bool = False,
    max_tokens: int | None = None,
    prepend_bos: bool | None = None,
    progress: bool = False,
) -> Windows:
    """The whole corpus as token windows, in memory.

    With `pack=False` each document is cut into windows, and no window holds two documents. With `pack=True` documents
    are joined with EOS between them and every window but the last is full. Each window begins with BOS where the
    model's texts do (`model.facts.prepend_bos`); `prepend_bos` True or False decides otherwise. `max_tokens` stops
    there exactly, cutting the last window if need be; tokens that begin or separate documents count.

    Raises ContextLengthError when `length` is beyond the model's context, DataError when the corpus holds no token,
    ConfigError for BOS or packing with a tokenizer that has no token for it.

    >>> sk.tokenize(sk.load_corpus(["a short text", "and another"]), model, length=16, max_tokens=20).n_tokens <= 20
    True
    """
    if max_tokens is not None and max_tokens < 2:
        raise ConfigError("max_tokens leaves no room for text", got=max_tokens, accepted="an integer of at least 2")
    parts: list[Windows] = []
    n_tokens = 0
    with tqdm(desc="tokenizing", unit=" tokens", unit_scale=True, total=max_tokens, disable=not progress) as bar:
        for part in iter_windows(corpus, model, length=length, pack=pack, prepend_bos=prepend_bos):
            if max_tokens is not None and n_tokens + part.n_tokens >= max_tokens:
                parts.append(_first_tokens(part, max_tokens - n_tokens, model.pad_id))
                bar.update(parts[-1].n_tokens)
                break
            parts.append(part)
            n_tokens += part.n_tokens
            bar.update(part.n_tokens)
    return Windows.concatenate([p for p in parts if len(p)])


@checks_arguments
def iter_windows(
    corpus: AnyCorpus,
    model: LanguageModel,
    *,
    length: int = 128,
    pack: bool = False,
    prepend_bos: bool | None = None,
    chunk_windows: int = 1024,
) -> Iterator[Windows]:
    """The corpus as token windows, `chunk_windows` at a time; for text that does not fit in memory.

    Document numbers run on from chunk to chunk and count every document of the corpus, the empty ones too. The
    arguments and errors are those of `tokenize`.

    >>> chunks = sk.iter_windows(corpus, model, length=16, chunk_windows=8)
    >>> sum(len(chunk) for chunk in chunks) == len(sk.tokenize(corpus, model, length=16))
    True
    """
    corpus = as_corpus(corpus)
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
    separator = model.facts.separator_id
    if pack and separator is None:
        raise ConfigError(
            f"the tokenizer of {model.name} has no token to put between documents",
            got="pack=True",
            accepted="a tokenizer with EOS or BOS",
            fix="pass pack=False",
        )
    bos_id = model.facts.bos_id if model.begins_with_bos(prepend_bos) else None
    return _iter_windows(corpus, model, length, separator if pack else None, bos_id, chunk_windows)


def _iter_windows(
    corpus: Corpus, model: LanguageModel, length: int, separator: int | None, bos_id: int | None, chunk_windows: int
) -> Iterator[Windows]:
    labels: dict[int, dict[str, object]] = {}
    readings: dict[int, dict[int, bytes]] = {}
    columns = list(corpus.label_names)
    documents = _token_ids(corpus, model, labels, readings)
    windows = _cut(documents, length, bos_id) if separator is None else _packed(documents, length, separator, bos_id)
    any_yet = False
    while chunk := list(islice(windows, chunk_windows)):
        any_yet = True
        part = _table(chunk, length, model.pad_id, labels, columns, readings)
        first_open = int(part.documents.max())  # later chunks may hold more of this document, not of those before it
        for number in [n for n in labels if n < first_open]:
            del labels[number]
            readings.pop(number, None)
        yield part
    if not any_yet:
        raise DataError(
            "the corpus holds no token", got="documents without text", fix="check the text column and the filter"
        )


def _token_ids(
    corpus: Corpus, model: LanguageModel, labels: dict[int, dict[str, object]], readings: dict[int, dict[int, bytes]]
) -> Iterator[tuple[int, np.ndarray]]:
    """(document number, ids without an added BOS) of every document that has tokens; fills `labels` and `readings`."""
    documents = iter(corpus)
    number = 0
    while batch := list(islice(documents, _TEXTS_PER_CALL)):
        try:
            encoded = encode_documents(batch, model)
        except (TypeError, UnicodeEncodeError) as e:
            raise DataError(
                f"the tokenizer of {model.name} refuses the text of documents {number} to {number + len(batch) - 1}",
                got=e,
                accepted="strings of valid Unicode (no lone surrogates)",
            ) from e
        for document, (ids, unlike) in zip(batch, encoded, strict=True):
            labels[number] = dict(document.labels)
            if unlike:
                readings[number] = unlike
            if ids:
                yield number, np.asarray(ids, dtype=np.int32)
            number += 1


def _cut(documents: Iterable[tuple[int, np.ndarray]], length: int, bos_id: int | None) -> Iterator[_Window]:
    """Windows of one document each."""
    for number, ids in documents:
        start = 0
        while start < len(ids):
            room = length - _n_added(ids[start:], bos_id)
            piece = ids[start : start + room]
            where = np.full(len(piece), number, dtype=np.int32)
            yield _begun((piece, where, np.arange(start, start + len(piece), dtype=np.int32)), bos_id)
            start += room


def _packed(
    documents: Iterable[tuple[int, np.ndarray]], length: int, separator_id: int, bos_id: int | None
) -> Iterator[_Window]:
    """Full windows of documents joined with a separator; the last one may be shorter."""
    none = np.empty(0, dtype=np.int32)
    separator = (np.array([separator_id], dtype=np.int32), np.full(1, -1, np.int32), np.full(1, -1, np.int32))
    open_, between = (none, none, none), (none, none, none)
    for number, ids in chain(documents, [(-1, none)]):
        if number >= 0:
            new = (ids, np.full(len(ids), number, np.int32), np.arange(len(ids), dtype=np.int32))
            open_, between = _joined(open_, between, new), separator
        start, n = 0, len(open_[0])
        while n - start >= length or (number < 0 and start < n):
            room = length - _n_added(open_[0][start:], bos_id)
            yield _begun(_sliced(open_, start, start + room), bos_id)
            start += room
        open_ = _sliced(open_, start, n)


def _joined(*parts: _Window) -> _Window:
    tokens, where, place = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return tokens, where, place


def _sliced(window: _Window, start: int, stop: int) -> _Window:
    tokens, where, place = (a[start:stop] for a in window)
    return tokens, where, place


def _n_added(ids: np.ndarray, bos_id: int | None) -> int:
    """How many tokens go before these: text that begins with BOS by itself, as chat does, gets no second one."""
    return int(bos_id is not None and int(ids[0]) != bos_id)


def _begun(window: _Window, bos_id: int | None) -> _Window:
    """The window begun with BOS, which belongs to no document, where it has to be."""
    if bos_id is None or not _n_added(window[0], bos_id):
        return window
    return _joined((np.array([bos_id]), np.array([-1]), np.array([-1])), window)


def _table(
    windows: list[_Window],
    length: int,
    pad_id: int,
    labels: dict[int, dict[str, object]],
    columns: list[str],
    readings: dict[int, dict[int, bytes]],
) -> Windows:
    tokens = np.full((len(windows), length), pad_id, dtype=np.int32)
    documents, places = np.full((2, len(windows), length), -1, dtype=np.int32)
    lengths = np.array([len(ids) for ids, _, _ in windows], dtype=np.int32)
    for row, (ids, where, place) in enumerate(windows):
        tokens[row, : len(ids)], documents[row, : len(ids)], places[row, : len(ids)] = ids, where, place
    present = np.unique(documents[documents >= 0])
    frame = pd.DataFrame([labels[int(n)] for n in present], index=pd.Index(present, name="document"))
    frame = frame.reindex(columns=[*columns, *(c for c in frame.columns if c not in columns)])
    return Windows(
        torch.from_numpy(tokens),
        torch.from_numpy(documents),
        torch.from_numpy(lengths),
        one_type_each(frame),
        _readings(documents.reshape(-1), places.reshape(-1), readings),
    )


def _readings(documents: np.ndarray, places: np.ndarray, readings: dict[int, dict[int, bytes]]) -> Readings:
    """The readings of the tokens of a chunk, by flat position."""
    position = np.flatnonzero(np.isin(documents, list(readings))) if readings else np.empty(0, np.int64)
    found = [
        (at, readings[number][place])
        for at, number, place in zip(
            position.tolist(), documents[position].tolist(), places[position].tolist(), strict=True
        )
        if place in readings[number]
    ]
    return Readings(np.array([at for at, _ in found], dtype=np.int64), [piece for _, piece in found])


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
        cut = Windows(tokens, documents, lengths, cut.labels, cut.readings).select(
            slice(None)
        )  # drops labels no longer needed
    return cut
