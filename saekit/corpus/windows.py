"""Token windows: the one form in which text reaches a model.

A table of windows of equal length, with the document that each token came from beside it. Made by `tokenize`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from jaxtyping import Int32, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..arguments import checks_arguments
from ..atomic_io import atomic_write
from ..errors import ConfigError, FileError, disk_errors
from ..json_files import damaged
from ..models.readings import Readings
from ..output_folder import output_folder, parts_of
from .displays import windows_html
from .documents import check_fraction, is_held_out

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
    """One row for each document, indexed by document number; a column of several types is text."""
    readings: Readings = field(default_factory=Readings)
    """Tokens that read otherwise than the model's vocabulary says, where its tokenizer changes text."""

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
    def prepends_bos(self) -> bool:
        """Whether a BOS that belongs to no document was put before the text of any window."""
        return bool((self.documents[:, 0] == -1).any())

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that change when a token, what it reads, a document number or a label changes."""
        digest = hashlib.sha256(repr(tuple(self.tokens.shape)).encode())
        for tensor in (self.tokens, self.documents, self.lengths):
            digest.update(tensor.contiguous().numpy().data)
        digest.update(self.labels.to_json(orient="split", force_ascii=True).encode())
        for array in _packed_readings(self.readings).values() if len(self.readings) else ():
            digest.update(np.ascontiguousarray(array).data)
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
        readings = self.readings
        if len(readings):
            readings = readings.select(torch.arange(len(self))[at].numpy(), self.length)
        return Windows(self.tokens[at], documents, self.lengths[at], self.labels.loc[present], readings)

    @checks_arguments
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

    @checks_arguments
    def batches(
        self, batch_size: int = 32
    ) -> Iterator[tuple[Int64[Tensor, "batch pos"], Int64[Tensor, "batch pos"], Int64[Tensor, " batch"]]]:
        """Batches of (tokens, attention_mask, row numbers), each trimmed to its longest window.

        Windows of similar length are put together within every 16 batches, so that little padding is run; the order is
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
        """Writes windows.safetensors and documents.parquet into `folder`, each atomically.

        FolderInUseError while another process or thread writes there.
        """
        with output_folder(folder, "token windows", leftovers=parts_of("windows.safetensors", "documents.parquet")):
            self.write(Path(folder).expanduser())

    def write(self, folder: Path) -> None:
        """What `save` does, for a caller that holds the lock of the folder, on whatever thread."""
        tensors = {"tokens": self.tokens, "documents": self.documents, "lengths": self.lengths}
        if len(self.readings):
            tensors |= {name: torch.from_numpy(a) for name, a in _packed_readings(self.readings).items()}
        with atomic_write(folder / "documents.parquet") as part:
            one_type_each(self.labels).to_parquet(part)
        with atomic_write(folder / "windows.safetensors") as part:
            part.write_bytes(save({name: t.contiguous() for name, t in tensors.items()}))

    @classmethod
    def load(cls, folder: str | Path) -> Windows:
        """The windows that `save` wrote into `folder`; the tokens stay on disk, memory-mapped.

        >>> windows = sk.tokenize(corpus, model, length=16)
        >>> windows.save(tmp_path)
        >>> type(windows).load(tmp_path).digest == windows.digest
        True
        """
        path, table = Path(folder) / "windows.safetensors", Path(folder) / "documents.parquet"
        fix = "the file is damaged: delete the folder and write it again"
        for file in (path, table):
            if not file.is_file():
                raise FileError(f"no file {file}", got="missing", accepted="windows that saekit wrote", fix=fix)
        with disk_errors(path), damaged(path, fix=fix, also=(SafetensorError,)):
            with safe_open(path, framework="pt") as f:
                tokens, documents, lengths = (f.get_tensor(name) for name in ("tokens", "documents", "lengths"))
                names = [name for name in READINGS if name in f.keys()]  # noqa: SIM118 - no mapping
                readings = _unpacked_readings([f.get_tensor(name).numpy() for name in names])
            _check_shapes(tokens, documents, lengths)
        with disk_errors(table), damaged(table, fix=fix, also=(pa.ArrowException,)):
            labels = pd.read_parquet(table).rename_axis("document")
            last = int(documents.max()) if documents.numel() else -1
            if last >= 0 and last not in labels.index:
                raise ValueError(f"no labels for document {last}")
        return cls(tokens, documents, lengths, labels, readings)

    @classmethod
    def concatenate(cls, parts: Sequence[Windows]) -> Windows:
        """All windows of `parts` in order; the parts number their documents as one corpus, as `iter_windows` does."""
        labels = pd.concat([p.labels for p in parts if len(p.labels)] or [parts[0].labels])
        labels = one_type_each(labels[~labels.index.duplicated()].sort_index())
        tokens, documents = torch.cat([p.tokens for p in parts]), torch.cat([p.documents for p in parts])
        readings = Readings.concatenate([(p.readings, p.tokens.numel()) for p in parts])
        return cls(tokens, documents, torch.cat([p.lengths for p in parts]), labels, readings)

    def __repr__(self) -> str:
        labels = ", ".join(map(str, self.labels.columns)) or "none"
        size = f"{len(self):,} windows of {self.length}: {self.n_tokens:,} tokens of {self.n_documents:,} documents"
        return f"Windows({size}; labels: {labels})"

    _repr_html_ = windows_html


def one_type_each(labels: pd.DataFrame) -> pd.DataFrame:
    """Labels with columns of one type each, as a table in a file has them: several types together become text.

    Whole numbers and others are numbers together; what is longer than 64 bits is text. A number that is whole is
    written as such, since a column with gaps has turned 1 into 1.0.

    >>> import pandas as pd
    >>> from saekit.corpus.windows import one_type_each
    >>> one_type_each(pd.DataFrame({"year": [1937, 2.0, "unknown"], "kept": [True, None, False]})).to_dict("list")
    {'year': ['1937', '2', 'unknown'], 'kept': [True, None, False]}
    """
    labels = labels.copy(deep=False)
    for name in [c for c in labels if labels[c].dtype == object]:
        column = labels[name]
        present = [v for v in column if not _is_missing(v)]
        types = {type(v) for v in present}
        fits = all(-(2**63) <= v < 2**63 for v in present if type(v) is int)
        if types == {int, float} and fits:
            labels[name] = column.astype(float)
        elif len(types) > 1 or not fits:
            texts = [None if _is_missing(v) else _as_text(v) for v in column]
            labels[name] = pd.Series(texts, index=column.index, dtype=object)
    return labels


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or value != value


def _as_text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else str(value)


def _check_shapes(tokens: Tensor, documents: Tensor, lengths: Tensor) -> None:
    """ValueError for tensors that are no table of windows."""
    shapes = tokens.ndim == 2 and tokens.shape[1] > 0 and documents.shape == tokens.shape
    if not shapes or lengths.shape != tokens.shape[:1]:
        raise ValueError(f"tokens {tuple(tokens.shape)}, documents {tuple(documents.shape)}, {tuple(lengths.shape)}")
    if any(t.dtype != torch.int32 for t in (tokens, documents, lengths)):
        raise ValueError(f"numbers of type {tokens.dtype}, {documents.dtype}, {lengths.dtype}")
    if len(lengths) and not (int(lengths.min()) >= 0 and int(lengths.max()) <= tokens.shape[1]):
        raise ValueError(f"lengths from {int(lengths.min())} to {int(lengths.max())} in windows of {tokens.shape[1]}")
    if tokens.numel() and (int(tokens.min()) < 0 or int(documents.min()) < -1):
        raise ValueError(f"token {int(tokens.min())}, document {int(documents.min())}")


READINGS = ("reading_position", "reading_end", "reading_bytes")
"""Tensors of `Windows.readings` in a file."""


def _packed_readings(readings: Readings) -> dict[str, np.ndarray]:
    ends = np.cumsum([len(p) for p in readings.piece], dtype=np.int64)
    together = np.frombuffer(b"".join(readings.piece), np.uint8).copy()
    return dict(zip(READINGS, (readings.position, ends, together), strict=True))


def _unpacked_readings(tensors: Sequence[np.ndarray]) -> Readings:
    if not tensors:
        return Readings()
    position, ends, together = tensors
    whole = together.tobytes()
    return Readings(position, [whole[a:b] for a, b in zip([0, *ends.tolist()[:-1]], ends.tolist(), strict=True)])
