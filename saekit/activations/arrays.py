"""Activations that are there already: arrays, files of arrays, and iterables of batches.

An array is shuffled whole in every epoch and resumes exactly. Batches of an iterable come in the order it has, shuffled
within stretches of the buffer; a function or a list is opened again for the next epoch and to resume, a generator can
do neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from ..errors import DataError, FileError, MismatchError, disk_errors
from ..hook_points import HookPoint, hook_text
from ..json_files import FAILURES, damaged
from ..models import LanguageModel
from ..sae import TokenFilter
from .array_digest import as_floats, digest_of_arrays
from .batches import ActivationBatches, mixed_seed
from .prefetch import checked_device, to_device
from .source import Provenance

OF_ITERABLE = "batches of an iterable: the first one"
"""What a run says that it was trained on where the first batch is all that is compared."""
NO_HOOK_POINT = "activations"
"""The hook point of activations whose own is not given."""


def of_arrays(given: object, model: LanguageModel | None, buffer_tokens: int) -> ArraySource | None:
    """A source of an array, of the path of an .npy or .safetensors file, or of batches; None for anything else.

    >>> from saekit.activations.arrays import of_arrays
    >>> next(of_arrays(torch.zeros(4, 3, 8), None, 100).batches(6)).shape
    torch.Size([6, 8])
    """
    if isinstance(given, str | Path) and Path(given).suffix in (".npy", ".safetensors"):
        given = _of_file(Path(given).expanduser())
    provenance = Provenance()
    if model is not None:
        provenance = Provenance(
            model_name=model.name, model_fingerprint=model.fingerprint, weight_processing=model.weight_processing
        )
    if isinstance(given, TensorDataset):
        given = unpacked(given.tensors)
    elif isinstance(given, Dataset) and not hasattr(given, "__iter__"):
        raise DataError(
            "a Dataset of torch gives rows one at a time",
            got=type(given).__name__,
            accepted="activations [n, d_in], or batches of them",
            fix="pass torch.utils.data.DataLoader(dataset, batch_size=...)",
        )
    if isinstance(given, Tensor | np.ndarray):
        rows = _rows(given)
        return ArraySource(provenance=provenance, array=rows, d_in=rows.shape[1], digest=digest_of_arrays([rows]))
    if isinstance(given, str | bytes | dict) or not (callable(given) or isinstance(given, Iterable)):
        return None
    once = isinstance(given, Iterator)

    def opened() -> Iterator[Any]:
        batches: Iterable[Any] = given() if callable(given) else given
        return iter(batches)

    try:
        first = next(begun := opened(), None)
    except TypeError:
        return None
    if first is None:
        raise DataError("there are no activations to train on", got="no batch", accepted="batches [n, d_in]")
    if not isinstance(unpacked(first), Tensor | np.ndarray):
        return None
    rows = _rows(first)
    held = list(given) if isinstance(given, list | tuple) else None
    return ArraySource(
        provenance=provenance,
        opened=opened,
        first=(first, begun) if once else None,
        buffer_tokens=buffer_tokens,
        d_in=rows.shape[1],
        digest=digest_of_arrays([rows] if held is None else [_rows(part, rows.shape[1]) for part in held]),
        held=held is not None,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ArraySource:
    """Activations [n, d_in] or [batch, pos, d_in] of one hook point as an ActivationSource. Made by `of_arrays`."""

    provenance: Provenance
    d_in: int
    digest: str
    """Of an array, of all arrays of a list, of the first batch of another iterable."""
    array: Any = None
    opened: Callable[[], Iterator[Any]] | None = None
    first: tuple[Any, Iterator[Any]] | None = None
    """Of a generator, which is read once: its first batch and itself."""
    buffer_tokens: int = 65_536
    held: bool = False
    """Whether what is iterated over is a list."""
    hook_name: HookPoint = NO_HOOK_POINT

    def at(self, hook_name: HookPoint) -> Self:
        if not isinstance(hook_name, str):
            raise MismatchError(
                "an array or an iterable has the activations of one hook point",
                got=hook_text(hook_name),
                accepted="one name",
                fix="pass an ActivationSource of your own, which may have several side by side",
            )
        return replace(self, hook_name=hook_name)

    def batches(
        self, batch_size: int, seed: int = 0, n_epochs: int | None = None, device: str | torch.device = "cpu"
    ) -> ActivationBatches:
        return _Batches(self, batch_size, seed, n_epochs, checked_device(device))


class _Batches(ActivationBatches):
    def __init__(
        self, source: ArraySource, batch_size: int, seed: int, n_epochs: int | None, device: torch.device
    ) -> None:
        if source.array is not None and len(source.array) < batch_size:
            raise DataError(
                "the array has fewer tokens than one batch",
                got=f"{len(source.array)} rows, batch_size={batch_size}",
                fix="pass a smaller batch_size, or more activations",
            )
        self.hook_name, self.widths, self.token_filter = source.hook_name, (source.d_in,), TokenFilter()
        self.batch_size, self.device, self._source, self._n_drawn = batch_size, device, source, 0
        self._seed, self._n_epochs = seed, n_epochs
        self._seen = hashlib.sha256()
        self._batches = self._read()

    @property
    def n_tokens_per_epoch(self) -> int | None:
        return None if self._source.array is None else len(self._source.array)

    @property
    def origin(self) -> dict[str, str]:
        s = self._source
        what = "a list of arrays" if s.held else OF_ITERABLE
        return {"digest": s.digest, "described": what if s.array is None else f"an array of {len(s.array):,} rows"}

    def __next__(self) -> Tensor:
        x = next(self._batches)
        self._n_drawn += 1
        if self._source.array is None:
            self._seen.update(x[:1].numpy().tobytes())
        return to_device(x, self.device)

    def _read(self) -> Iterator[Tensor]:
        """Batch after batch, shuffled within an epoch of the array or a stretch of the iterable."""
        waiting = torch.empty(0, self._source.d_in)
        for chunk in self._of_array() if self._source.array is not None else self._of_iterable():
            waiting = torch.cat([waiting, chunk])
            while len(waiting) >= self.batch_size:
                yield waiting[: self.batch_size]
                waiting = waiting[self.batch_size :]
        if self._n_epochs is None:
            raise DataError(
                "the activations came to an end",
                got=f"{self._n_drawn} batches of {self.batch_size}",
                accepted="as many as are to be trained on, or what can be read again",
                fix="pass a smaller n_tokens, or an array, a list or a function instead of a generator",
            )

    def _epochs(self) -> Iterable[int]:
        return count() if self._n_epochs is None else range(self._n_epochs)

    def _of_array(self) -> Iterator[Tensor]:
        array = self._source.array
        skip = self._n_drawn * self.batch_size
        for epoch in self._epochs():
            order = torch.randperm(len(array), generator=torch.Generator().manual_seed(mixed_seed(self._seed, epoch)))
            first, skip = min(skip, len(order)), max(skip - len(order), 0)
            for rows in torch.split(order[first:], self.batch_size):
                yield as_floats(array[rows if isinstance(array, Tensor) else rows.numpy()])

    def _of_iterable(self) -> Iterator[Tensor]:
        n = 0
        for epoch in self._epochs():
            if self._source.first is not None and epoch:
                return
            parts: list[Tensor] = []
            for batch in self._opened():
                parts.append(as_floats(_rows(batch, self._source.d_in)))
                if sum(map(len, parts)) >= max(self._source.buffer_tokens, self.batch_size):
                    yield self._shuffled(parts, n)
                    parts, n = [], n + 1
            if parts:
                yield self._shuffled(parts, n)
                n += 1
            if not n:
                return

    def _shuffled(self, parts: list[Tensor], n: int) -> Tensor:
        x = torch.cat(parts)
        return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(mixed_seed(self._seed, n)))]

    def _opened(self) -> Iterator[Any]:
        s = self._source
        if s.first is None:
            assert s.opened is not None
            return s.opened()
        return chain([s.first[0]], s.first[1])

    def state_dict(self) -> dict[str, Any]:
        return {"identity": self._identity(), "n_drawn": self._n_drawn, "seen": self._seen.hexdigest()}

    def _identity(self) -> dict[str, Any]:
        s = self._source
        kind = "array" if s.array is not None else "iterable" if s.first is None else "generator"
        return {
            "kind": kind,
            "activations": s.digest,
            "batch_size": self.batch_size,
            "seed": self._seed,
            **({} if s.array is not None else {"buffer_tokens": s.buffer_tokens}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._check_state(state, self._identity())
        fix = "pass an array, or a function that returns the same batches each time; or resume=False to start again"
        if self._source.first is not None:
            raise MismatchError(
                "a generator cannot be read again from where the run stopped",
                got="a generator",
                accepted="activations that can be read again",
                fix=fix,
            )
        if self._source.array is not None:
            self._n_drawn = state["n_drawn"]
            self._batches = self._read()
            return
        while self._n_drawn < state["n_drawn"]:
            next(self)
        if self._seen.hexdigest() != state["seen"]:
            raise MismatchError("the iterable gave other batches than before", fix=fix)


def unpacked(batch: object) -> object:
    """The one array of a batch that a DataLoader of a TensorDataset gives as [array]; others as they are.

    DataError for several arrays.

    >>> from saekit.activations.arrays import unpacked
    >>> unpacked([torch.zeros(4, 8)]).shape
    torch.Size([4, 8])
    """
    arrays = batch if isinstance(batch, list | tuple) and all(isinstance(x, Tensor | np.ndarray) for x in batch) else []
    if len(arrays) > 1:
        raise DataError(
            "a batch holds several arrays, and it is not known which one has the activations",
            got=", ".join(f"shape {tuple(x.shape)}" for x in arrays),
            accepted="one array [n, d_in] or [batch, pos, d_in]",
            fix="pass a function that picks it, lambda: (batch[0] for batch in batches), or TensorDataset(activations)",
        )
    return arrays[0] if arrays else batch


def _rows(given: Any, width: int | None = None) -> Any:
    """An array as [n, d_in]; DataError for another shape, width or type."""
    given = unpacked(given)
    if not isinstance(given, Tensor | np.ndarray):
        raise DataError(
            "a batch is no array", got=type(given).__name__, accepted="a torch tensor or numpy array of activations"
        )
    whole = not given.is_floating_point() if isinstance(given, Tensor) else not np.issubdtype(given.dtype, np.floating)
    if whole or given.ndim not in (2, 3) or 0 in given.shape or (width is not None and given.shape[-1] != width):
        raise DataError(
            "these are no activations",
            got=f"shape {tuple(given.shape)}, {given.dtype}",
            accepted=f"floats [n, {width or 'd_in'}] or [batch, pos, {width or 'd_in'}], at least one row",
            fix="pass activations of the hook point the SAE is for; token ids are text: sk.load_corpus",
        )
    return given.reshape(-1, given.shape[-1])


def _of_file(path: Path) -> Any:
    if not path.is_file():
        raise FileError(f"no file {path}", accepted="an .npy or .safetensors file of activations", fix="check the path")
    with disk_errors(path):
        if path.suffix == ".npy":
            try:
                return np.load(path, mmap_mode="r", allow_pickle=False)
            except FAILURES as e:
                raise FileError(f"{path} is no array of activations", got=e) from e
        try:
            with damaged(path):
                tensors = load_file(path)
        except SafetensorError as e:
            raise FileError(f"{path} is no safetensors file", got=e) from e
    if len(tensors) != 1 and "activations" not in tensors:
        raise FileError(
            f"{path} does not say which tensor holds the activations",
            got=", ".join(sorted(tensors)),
            accepted='one tensor, or one named "activations"',
            fix="load it, and pass the tensor itself",
        )
    return tensors.get("activations", next(iter(tensors.values())))
