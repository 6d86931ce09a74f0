"""Token windows: the one form in which text reaches a model.

A corpus becomes a table of windows of equal length, with the document that each token came from beside it. Two rules
hold everywhere: every token of every document appears exactly once, in order; and two documents are never in one window
without a separator between them. Uses a model only for its tokenizer and its special ids, never to run it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int32, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from tqdm.auto import tqdm

from ..atomic_io import atomic_write
from ..errors import ConfigError, ContextLengthError, DataError, FileError, disk_errors
from ..models import LanguageModel
from .documents import Corpus, Document, check_fraction, is_held_out

_TEXTS_PER_CALL = 256
_BATCHES_PER_SORT = 16


@dataclass(frozen=True, eq=False)
class Windows:
    """Text as a table of token windows, right-padded, with the document of each token beside it.

    >>> windows = sk.tokenize(sk.load_corpus(["one two three", "four"]), model, length=16)
    >>> windows.documents[:, 0].tolist()  # the BOS that begins a window belongs to no document
    [-1, -1]
    """

    tokens: Int32[Tensor, "windows length"]
    """Token ids; the model's padding id after the end of a window."""
    documents: Int32[Tensor, "windows length"]
    """Document number of each token; -1 for an added BOS, a separator and padding."""
    lengths: Int32[Tensor, " windows"]
    """Real tokens in each window, the BOS included."""
    labels: pd.DataFrame
    """One row for each document, indexed by document number."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def length(self) -> int:
        """Tokens in a full window."""
        return int(self.tokens.shape[1])

    @property
    def n_tokens(self) -> int:
        """Real tokens, those that begin or separate documents included."""
        return int(self.lengths.sum())

    @property
    def n_documents(self) -> int:
        """Documents with at least one token here."""
        return int((torch.unique(self.documents) >= 0).sum())

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that change when a token, a document number or a label changes."""
        digest = hashlib.sha256(repr(tuple(self.tokens.shape)).encode())
        for tensor in (self.tokens, self.documents, self.lengths):
            digest.update(tensor.contiguous().numpy().data)
        digest.update(self.labels.to_json(orient="split", force_ascii=True).encode())
        return digest.hexdigest()[:16]

    def select(self, rows: Sequence[int] | slice | np.ndarray | Tensor) -> Windows:
        """The windows in `rows`, with the labels of the documents in them; document numbers stay as they are.

        >>> sk.tokenize(corpus, model, length=16).select([0]).documents.shape
        torch.Size([1, 16])
        """
        at = (
            rows
            if isinstance(rows, slice)
            else torch.as_tensor(rows if len(rows) else torch.empty(0, dtype=torch.long))
        )
        documents = self.documents[at]
        present = torch.unique(documents[documents >= 0]).numpy()
        return Windows(self.tokens[at], documents, self.lengths[at], self.labels.loc[present])

    def split_rows(
        self, fraction_held_out: float = 0.1, seed: int = 0
    ) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " m"]]:
        """Rows of (training, held-out) windows that share no document; the sides are those of Corpus.split,
        unless that corpus was filtered or shuffled before.

        ConfigError for packed windows, where documents share a window.

        >>> training, held_out = sk.tokenize(corpus, model, length=16).split_rows(0.5)
        >>> len(training) + len(held_out) == len(sk.tokenize(corpus, model, length=16))
        True
        """
        check_fraction(fraction_held_out)
        of_window = self.documents.amax(1)
        if bool(((self.documents >= 0) & (self.documents != of_window[:, None])).any()):
            raise ConfigError("packed windows cannot be split by document", fix="split the corpus, or pass pack=False")
        sides = {n: is_held_out(n, fraction_held_out, seed) for n in torch.unique(of_window).tolist()}
        held_out = torch.tensor([sides[n] for n in of_window.tolist()])
        return (~held_out).nonzero()[:, 0], held_out.nonzero()[:, 0]

    def batches(
        self, batch_size: int = 32
    ) -> Iterator[tuple[Int64[Tensor, "batch pos"], Int64[Tensor, "batch pos"], Int64[Tensor, " batch"]]]:
        """Batches of (tokens, attention_mask, row numbers), each trimmed to its longest window.

        Windows of like length are put together within every 16 batches, so that little padding is run; the order is
        the same each time. Use the row numbers to put results back.

        >>> for tokens, attention_mask, rows in sk.tokenize(corpus, model, length=16).batches(2):
        ...     assert tokens.shape == attention_mask.shape and len(rows) == len(tokens) <= 2
        """
        if batch_size < 1:
            raise ConfigError("batch_size is not positive", got=batch_size, accepted="an integer of at least 1")
        stretch = batch_size * _BATCHES_PER_SORT
        for start in range(0, len(self), stretch):
            order = start + torch.argsort(self.lengths[start : start + stretch], descending=True, stable=True)
            for rows in torch.split(order, batch_size):
                yield *self.batch(rows), rows

    def batch(self, rows: Int64[Tensor, " batch"]) -> tuple[Int64[Tensor, "batch pos"], Int64[Tensor, "batch pos"]]:
        """(tokens, attention_mask) of these windows, trimmed to the longest; what a model takes."""
        lengths = self.lengths[rows]
        width = int(lengths.max())
        mask = (torch.arange(width) < lengths[:, None]).long()
        return self.tokens[rows, :width].long(), mask

    def save(self, folder: str | Path) -> None:
        """Writes windows.safetensors and documents.parquet into `folder`, each atomically."""
        tensors = {"tokens": self.tokens, "documents": self.documents, "lengths": self.lengths}
        with atomic_write(Path(folder) / "documents.parquet") as part:
            self.labels.to_parquet(part)
        with atomic_write(Path(folder) / "windows.safetensors") as part:
            part.write_bytes(save({name: t.contiguous() for name, t in tensors.items()}))

    @classmethod
    def load(cls, folder: str | Path) -> Windows:
        """The windows that `save` wrote into `folder`; the tokens stay on disk, memory-mapped.

        >>> windows = sk.tokenize(corpus, model, length=16)
        >>> windows.save(tmp_path)
        >>> type(windows).load(tmp_path).digest == windows.digest
        True
        """
        path = Path(folder) / "windows.safetensors"
        with disk_errors(path):
            try:
                with safe_open(path, framework="pt") as f:
                    tokens, documents, lengths = (f.get_tensor(name) for name in ("tokens", "documents", "lengths"))
                labels = pd.read_parquet(Path(folder) / "documents.parquet")
            except (SafetensorError, ValueError) as e:
                raise FileError(f"{path.parent} holds damaged windows: {e}", fix="delete it and write it again") from e
        return cls(tokens, documents, lengths, labels)

    @classmethod
    def concatenate(cls, parts: Sequence[Windows]) -> Windows:
        """All windows of `parts` in order; the parts number their documents as one corpus, as `iter_windows` does."""
        labels = pd.concat([p.labels for p in parts if len(p.labels)] or [parts[0].labels])
        labels = labels[~labels.index.duplicated()].sort_index()
        tokens, documents = torch.cat([p.tokens for p in parts]), torch.cat([p.documents for p in parts])
        return cls(tokens, documents, torch.cat([p.lengths for p in parts]), labels)

    def __repr__(self) -> str:
        labels = ", ".join(map(str, self.labels.columns)) or "none"
        size = f"{len(self):,} windows of {self.length}: {self.n_tokens:,} tokens of {self.n_documents:,} documents"
        return f"Windows({size}; labels: {labels})"


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


_Window = tuple[np.ndarray, np.ndarray]
"""The tokens of one window and their document numbers."""


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
