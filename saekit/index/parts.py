"""The one pass over a corpus: windows in, sparse activations out, kept in parts so that a killed build resumes.

A part is the activations of CHUNK_WINDOWS successive windows in one file, written atomically, and marked with digests
of the windows, of its own contents and of the plan of the index. A thread writes it while the next is computed. A later
run of the same build computes only the parts that are missing or damaged; because a part depends on nothing outside it,
the result is the same as that of a build never interrupted. `index_files` makes the index of the parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from scipy import sparse
from torch import Tensor
from tqdm.auto import tqdm

from ..activations import ActivationCache
from ..activations.excluded import ExclusionCounter
from ..activations.forward import WindowsForward
from ..activations.prefetch import prefetch
from ..corpus import Corpus, Windows, iter_windows
from ..errors import DataError, MismatchError
from ..hook_points import hook_names
from ..json_files import FAILURES, damaged
from .sparse import Sparse
from .store import save_tensors

if TYPE_CHECKING:
    from ..hook_points import HookPoint
    from ..models import LanguageModel
    from ..sae import SAE, TokenFilter

CHUNK_WINDOWS = 256
UNREADABLE: tuple[type[Exception], ...] = (SafetensorError, OSError, *FAILURES)
READ_TOKENS = 12_288  # of a cache, at a time


class Part(NamedTuple):
    """The sparse activations of some windows: a row for each token kept, at flat `position` within these windows."""

    position: np.ndarray  # Int64 [n_kept], ascending
    acts: Sparse
    norms: np.ndarray = np.zeros((0, 5))  # Float64 [hook points, 5]: what the token filter leaves out, see `counter`


class IndexInput(NamedTuple):
    """What is indexed: windows to run the model on, or windows whose activations are on disk."""

    data: Corpus | Windows | ActivationCache
    model: LanguageModel
    length: int
    prepend_bos: bool | None = None

    @property
    def name(self) -> str:
        return self.data.name if isinstance(self.data, Corpus) else "windows"

    def n_tokens(self, seen: int, n_documents: int) -> int | None:
        """How many tokens there are, where that can be known; a guess when `seen` of them are of the first
        `n_documents` of a corpus whose length is known. None for one that is read as a stream.
        """
        if isinstance(self.data, Corpus):
            known = self.data.in_memory and n_documents > 0
            return round(seen / n_documents * len(self.data)) if known else None
        return (self.data.windows if isinstance(self.data, ActivationCache) else self.data).n_tokens

    def chunks(self) -> Iterator[Windows]:
        """The windows, CHUNK_WINDOWS at a time."""
        if isinstance(self.data, Corpus):
            yield from iter_windows(
                self.data, self.model, length=self.length, prepend_bos=self.prepend_bos, chunk_windows=CHUNK_WINDOWS
            )
            return
        windows = self.data.windows if isinstance(self.data, ActivationCache) else self.data
        for first in range(0, len(windows), CHUNK_WINDOWS):
            yield windows.select(slice(first, first + CHUNK_WINDOWS))


class IndexEncoder(NamedTuple):
    """What turns windows into sparse activations."""

    model: LanguageModel
    sae: SAE
    hook_name: HookPoint
    token_filter: TokenFilter
    batch_size: int

    def counter(self) -> ExclusionCounter:
        """Of what the token filter leaves out; sums of norms are those of `ExclusionCounter.norm_totals`."""
        names = hook_names(self.hook_name)
        return ExclusionCounter(self.token_filter, names, [self.model.hook_width(name) for name in names])

    @torch.inference_mode()
    def run(self, windows: Windows, bar: Any = None) -> list[Part]:
        """The activations of `windows`, from the model; batches in the order in which they were run."""
        found, counter = [], self.counter()
        for _, mask, rows in windows.batches(self.batch_size):
            forward = WindowsForward(self.model, windows, rows, self.hook_name, self.token_filter)
            position, x = forward.kept()
            found.append(self._encode(position, x)._replace(norms=forward.norm_totals(counter)))
            if bar is not None:
                bar.update(int(mask.sum()))
        return found

    @torch.inference_mode()
    def read(self, cache: ActivationCache, first_window: int, windows: Windows, bar: Any = None) -> list[Part]:
        """The activations of `windows`, which begin at `first_window` of the cache, from what it holds."""
        offset = first_window * windows.length
        edges = torch.tensor([offset, offset + len(windows) * windows.length])
        begin, end = (int(row) for row in torch.searchsorted(cache.position, edges))
        spans = [slice(start, min(start + READ_TOKENS, end)) for start in range(begin, end, READ_TOKENS)]
        found, n_tokens, shown, tokens = [], windows.n_tokens, 0, windows.tokens.flatten()
        for rows, x in zip(spans, prefetch(map(cache.x, spans), thread=True), strict=True):
            position = cache.position[rows] - offset
            if self.token_filter != cache.token_filter:
                keep = self.token_filter.keep(tokens[position], x)
                position, x = position[keep.to(position.device)], x[keep]
            found.append(self._encode(position, x))
            if bar is not None:  # those that the token filter leaves out are spread over the rest
                bar.update(n_tokens * (rows.stop - begin) // (end - begin) - shown)
                shown = n_tokens * (rows.stop - begin) // (end - begin)
        if bar is not None:
            bar.update(n_tokens - shown)
        return found

    def _encode(self, position: Tensor, x: Tensor) -> Part:
        weight = self.sae.W_enc
        acts = self.sae.encode_sparse(x.to(weight.device, weight.dtype))
        value = acts.value.float().cpu().numpy()
        if not np.isfinite(value).all():
            raise DataError("the SAE's activations are not finite", accepted="finite numbers", fix="check its weights")
        n = np.bincount(acts.token.cpu().numpy(), minlength=len(position))
        start = np.concatenate([[0], np.cumsum(n, dtype=np.int64)])
        return Part(
            position.numpy().astype(np.int64), Sparse(start, acts.feature.cpu().numpy().astype(np.int32), value)
        )


def encode_all(
    source: IndexInput, encoder: IndexEncoder, folder: Path, plan: str, bar: Any
) -> tuple[Windows, list[Path]]:
    """The corpus' windows and the files of its parts in order; computes those that are not in `folder` yet.

    `plan` is the digest of everything that the index depends on: a part of another one does not count.
    """
    chunks, files, first, seen = [], [], 0, 0
    with ThreadPoolExecutor(1) as writer:
        written: Future[None] | None = None
        for number, chunk in enumerate(source.chunks()):
            file = folder / f"{number:06d}.safetensors"
            if _is_done(file, chunk, plan):
                bar.update(chunk.n_tokens)
            else:
                if isinstance(source.data, ActivationCache):
                    found = encoder.read(source.data, first, chunk, bar)
                    source.data.release()
                else:
                    found = encoder.run(chunk, bar)
                if written is not None:
                    written.result()  # no more than one part waits, and none is written after one that could not be
                written = writer.submit(_write_part, file, found, chunk, plan)
            chunks.append(chunk)
            files.append(file)
            first, seen = first + len(chunk), seen + chunk.n_tokens
            bar.total = source.n_tokens(seen, int(chunk.documents.max()) + 1)
        if written is not None:
            written.result()
    if not chunks:
        raise DataError("there is nothing to index", got="no windows", accepted="at least one window of tokens")
    return Windows.concatenate(chunks), files


def join_parts(files: list[Path], length: int) -> Part:
    """All parts as one, positions counted over the whole corpus."""
    loaded = [_load(file) for file in files]
    norms = [p.get("norms", np.zeros((0, 5))) for p in loaded]  # without a row where they are not known
    totals = np.sum(norms, axis=0) if all(map(len, norms)) else np.zeros((0, 5))
    n_tokens, n_firings = (sum(len(p[key]) for p in loaded) for key in ("position", "column"))
    position, start = np.empty(n_tokens, np.int64), np.zeros(n_tokens + 1, np.int64)
    column, value = np.empty(n_firings, np.int32), np.empty(n_firings, np.float32)
    token, firing = 0, 0
    for n in range(len(files)):
        part, loaded[n] = loaded[n], {}  # what was read of the file is let go
        rows, entries = slice(token, token + len(part["position"])), slice(firing, firing + len(part["column"]))
        position[rows] = part["position"] + n * CHUNK_WINDOWS * length
        start[rows.start + 1 : rows.stop + 1] = part["start"][1:] + firing
        column[entries], value[entries] = part["column"], part["value"]
        token, firing = rows.stop, entries.stop
    return Part(position, Sparse(start, column, value), totals)


def progress_bar(source: IndexInput, progress: bool) -> Any:
    """A bar that counts tokens."""
    total = source.n_tokens(0, 0)
    return tqdm(total=total, desc="indexing", unit=" tokens", unit_scale=True, disable=not progress)


def _write_part(file: Path, found: list[Part], chunk: Windows, plan: str) -> None:
    part = _merge(found)
    tensors = {"position": part.position, "norms": part.norms, **part.acts._asdict()}
    marks = {"windows": chunk.digest, "plan": plan}
    save_tensors(file, tensors, {**marks, "contents": _digest(tensors, marks)})


def _is_done(file: Path, chunk: Windows, plan: str) -> bool:
    """Whether the part is there, whole, and of this plan. MismatchError when it was made from other windows."""
    if not file.is_file():
        return False
    try:
        with safe_open(file, "pt") as f:
            marks = f.metadata() or {}
            tensors = {k: f.get_tensor(k).numpy() for k in f.keys()}  # noqa: SIM118
        whole = marks.get("plan") == plan and marks.pop("contents", None) == _digest(tensors, marks)
    except UNREADABLE:  # whatever is wrong with it, it is computed again
        return False
    if whole and marks.get("windows") != chunk.digest:
        raise MismatchError(
            f"the corpus is not the one that the unfinished index in {file.parent.parent} was started on",
            got=chunk.digest,
            accepted=marks.get("windows"),
            fix="pass another folder as out=, or resume=False to begin again",
        )
    return whole


def _load(file: Path) -> dict[str, np.ndarray]:
    fix = "run the same call again: it is computed again"
    with damaged(file, fix=fix, also=(SafetensorError, OSError)), safe_open(file, "pt") as f:
        return {k: f.get_tensor(k).numpy() for k in f.keys()}  # noqa: SIM118


def _digest(tensors: Mapping[str, np.ndarray], marks: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(marks.items())).encode())
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(np.ascontiguousarray(tensors[key]).data)
    return digest.hexdigest()[:16]


def _merge(found: list[Part]) -> Part:
    """Batches of tokens in any order as one part in ascending order of position and feature, without zeros."""
    if not found:
        return Part(
            np.zeros(0, np.int64), Sparse(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
        )
    position = np.concatenate([p.position for p in found])
    width = 1 + max(int(p.acts.column.max(initial=0)) for p in found)
    rows = sparse.vstack(
        [sparse.csr_matrix((p.acts.value, p.acts.column, p.acts.start), shape=(p.acts.n_rows, width)) for p in found]
    )
    order = np.argsort(position)
    rows = rows.tocsr()[order]
    rows.sort_indices()
    rows.eliminate_zeros()
    acts = Sparse(rows.indptr.astype(np.int64), rows.indices.astype(np.int32), rows.data)
    return Part(position[order], acts, np.sum([p.norms for p in found], axis=0))
