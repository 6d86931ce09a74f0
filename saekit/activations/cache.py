"""Activations on disk, read: all of them or the parts of some documents or hook points, in order or shuffled.

Shards stay memory-mapped; what is asked for comes as float32. How they are written is the business of `harvest`. Knows
nothing of autoencoders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ..corpus import Windows
from ..errors import ConfigError, DataError, MismatchError
from ..hook_points import HookPoint, hook_names, hook_text
from ..models import LanguageModel
from ..sae import TokenFilter
from .batches import ActivationBatches, mixed_seed
from .columns import Columns
from .prefetch import checked_device, prefetch, to_device
from .shards import read_shard


class ActivationCache(Columns):
    """Activations of a text at a hook point, on disk, with the text's windows. Made by `cache_activations`.

    Those of several hook points stand side by side; `at` gives the part of some of them.

    The shards stay on disk, memory-mapped; rows that are asked for come as float32 copies, yours to change.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        hook = manifest["hook_name"]
        self.hook_name = hook if isinstance(hook, str) else tuple(hook)
        self.widths = tuple(manifest.get("widths", [manifest["d_in"]]))
        self.model_name: str = manifest["model_name"]
        self.model_fingerprint: str = manifest["model_fingerprint"]
        self.weight_processing: str = manifest["weight_processing"]
        self.token_filter = TokenFilter.from_dict(manifest["token_filter"])
        self.dtype: str = manifest["dtype"]
        self.digest: str = hashlib.sha256("".join(s["sha256"] for s in manifest["shards"]).encode()).hexdigest()[:16]
        """16 hexadecimal digits of all that is stored."""
        self.windows = Windows.load(path)
        self._files = [path / s["file"] for s in manifest["shards"]]
        self._shards = [read_shard(file) for file in self._files]
        self._starts = [0]
        for x, _ in self._shards:
            self._starts.append(self._starts[-1] + len(x))

    @property
    def n_tokens(self) -> int:
        """Kept tokens."""
        return self._starts[-1]

    @cached_property
    def position(self) -> Int64[Tensor, " n_tokens"]:
        """For each kept token window * length + place in the window; ascending."""
        return torch.cat([position for _, position in self._shards])

    def x(self, rows: slice | Sequence[int] | Int64[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        """The activations of these kept tokens, in the order asked for.

        >>> cache = sk.cache_activations(model, corpus, HOOK, tmp_path, length=16, progress=False)
        >>> cache.x([2, 0]).shape
        torch.Size([2, 32])
        """
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.n_tokens)
            if step != 1:
                return self.x(torch.arange(start, stop, step))
            parts = [
                x[max(start - first, 0) : stop - first]
                for (x, _), first in zip(self._shards, self._starts[:-1], strict=True)
                if first < stop and first + len(x) > start
            ]
            return torch.cat(parts).float() if parts else torch.empty(0, self.d_in)
        rows = torch.as_tensor(rows, dtype=torch.long)
        if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= self.n_tokens):
            raise DataError(
                "a row outside the cache",
                got=f"{int(rows.min())} to {int(rows.max())}",
                accepted=f"0 to {self.n_tokens - 1}",
            )
        out = torch.empty(len(rows), self.d_in)
        order = rows.argsort()
        ends = torch.searchsorted(rows[order], torch.tensor(self._starts)).tolist()
        for (x, _), first, a, b in zip(self._shards, self._starts[:-1], ends[:-1], ends[1:], strict=True):
            if a < b:
                out[order[a:b]] = x[rows[order[a:b]] - first].float()
        return out

    def release(self) -> None:
        """Lets go of the memory in which what was read of the files is kept; they are read again when they are needed.

        A build that reads a cache once from end to end calls it on its way, so that memory does not grow with the
        cache. Parts and columns of a cache share its files.

        >>> cache = sk.cache_activations(model, corpus, HOOK, tmp_path, length=16, progress=False)
        >>> before = cache.x([0, 1])
        >>> cache.release()
        >>> bool((cache.x([0, 1]) == before).all())
        True
        """
        self._shards[:] = [read_shard(file) for file in self._files]

    def chunks(self, n_tokens: int = 8192) -> Iterator[tuple[Int64[Tensor, " n"], Float[Tensor, "n d_in"]]]:
        """(position, x) of all kept tokens in the text's order, `n_tokens` at a time.

        >>> cache = sk.cache_activations(model, corpus, HOOK, tmp_path, length=16, progress=False)
        >>> sum(len(x) for position, x in cache.chunks(100)) == cache.n_tokens
        True
        """
        for start in range(0, self.n_tokens, n_tokens):
            part = slice(start, start + n_tokens)
            yield self.position[part], self.x(part)

    def batches(
        self, batch_size: int, seed: int = 0, n_epochs: int | None = None, device: str | torch.device = "cpu"
    ) -> ActivationBatches:
        """Shuffled batches over the whole cache, a full shuffle each epoch; `n_epochs` None goes on for ever.

        They come on `device`. From the second on a thread reads each while the one before it is in use.

        >>> cache = sk.cache_activations(model, corpus, HOOK, tmp_path, length=16, progress=False)
        >>> next(cache.batches(32)).shape
        torch.Size([32, 32])
        """
        return _CachedBatches(self, batch_size, seed, n_epochs, checked_device(device))

    def split(self, fraction_held_out: float = 0.1, seed: int = 0) -> tuple[ActivationCache, ActivationCache]:
        """(training, held-out) parts that share no document, with windows of their own; nothing is copied on disk.

        The sides are those of Corpus.split, unless that corpus was filtered or shuffled before. ConfigError for packed
        windows.

        >>> cache = sk.cache_activations(model, corpus, HOOK, tmp_path, length=16, progress=False)
        >>> training, held_out = cache.split(0.5)
        >>> training.n_tokens + held_out.n_tokens == cache.n_tokens
        True
        """
        training, held_out = self.windows.split_rows(fraction_held_out, seed)
        return _CachePart(self, training), _CachePart(self, held_out)

    def at(self, hook_name: HookPoint) -> ActivationCache:
        """The activations of one hook point, or of several, out of those that are here; nothing is copied on disk.

        Its token filter is theirs alone, but the tokens are those that every hook point of the whole keeps.
        MismatchError for a hook point that is not here.

        >>> cache = sk.cache_activations(
        ...     model, corpus, (HOOK, "embed.hook_out"), tmp_path, length=16, progress=False)
        >>> cache.d_in, cache.at("embed.hook_out").d_in
        (64, 32)
        """
        return self if hook_name == self.hook_name else _CacheColumns(self, hook_name)

    def check(self, model: LanguageModel, hook_name: HookPoint | None = None) -> None:
        """Raises MismatchError when the activations are of another model, weight processing or hook point."""
        mine = (self.model_fingerprint, self.weight_processing, hook_name and self.hook_name)
        theirs = (model.fingerprint, model.weight_processing, hook_name)
        for what, seen, wanted in zip(("model", "weight processing", "hook point"), theirs, mine, strict=True):
            if seen != wanted:
                raise MismatchError(
                    f"the activations in {self.path} are of another {what}",
                    got=f"{model.name} ({seen})" if what == "model" else hook_text(seen or ""),
                    accepted=f"{self.model_name} ({wanted})" if what == "model" else hook_text(wanted or ""),
                    fix="use the model they were read from, or write another cache",
                )

    def __len__(self) -> int:
        return self.n_tokens

    def __repr__(self) -> str:
        size = sum(x.nbytes for x, _ in self._shards) / 1e6
        return (
            f"ActivationCache {self.path}\n"
            f"  {self.n_tokens:,} tokens x {self.d_in} at {hook_text(self.hook_name)} of "
            f"{self.model_name} ({self.dtype}, {size:,.0f} MB, {len(self._shards)} shards)\n"
            f"  {self.token_filter.describe()}"
        )


class _CachePart(ActivationCache):
    """The activations of some of a cache's windows; rows and windows are numbered anew."""

    def __init__(self, whole: ActivationCache, windows: Int64[Tensor, " windows"]) -> None:
        self.__dict__.update({k: v for k, v in whole.__dict__.items() if k != "position"})
        self._whole = whole
        number = torch.full((len(whole.windows),), -1)
        number[windows] = torch.arange(len(windows))
        window, place = whole.position // whole.windows.length, whole.position % whole.windows.length
        self._rows = (number[window] >= 0).nonzero()[:, 0]
        self.__dict__["position"] = number[window[self._rows]] * whole.windows.length + place[self._rows]
        self.windows = whole.windows.select(windows)
        self.digest = hashlib.sha256(whole.digest.encode() + windows.numpy().tobytes()).hexdigest()[:16]

    @property
    def n_tokens(self) -> int:
        return len(self._rows)

    def x(self, rows: slice | Sequence[int] | Int64[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        rows = rows if isinstance(rows, slice) else torch.as_tensor(rows, dtype=torch.long)
        return self._whole.x(self._rows[rows])

    def __repr__(self) -> str:
        return (
            f"ActivationCache, {self.n_tokens:,} of the {self._whole.n_tokens:,} tokens of {self.path}\n"
            f"  {self.windows.n_documents:,} documents, {hook_text(self.hook_name)} of {self.model_name}"
            f"\n  {self.token_filter.describe()}"
        )


class _CacheColumns(ActivationCache):
    """The activations of some of a cache's hook points."""

    def __init__(self, whole: ActivationCache, hook_name: HookPoint) -> None:
        self.__dict__.update(whole.__dict__)
        self._whole, self._columns = whole, whole.columns(hook_name)
        self.token_filter = whole.token_filter_at(hook_name)
        self.hook_name = hook_name
        self.widths = tuple(whole.width(name) for name in hook_names(hook_name))
        self.digest = hashlib.sha256(f"{whole.digest} {hook_text(hook_name)}".encode()).hexdigest()[:16]

    @property
    def n_tokens(self) -> int:
        return self._whole.n_tokens

    def x(self, rows: slice | Sequence[int] | Int64[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        return self._whole.x(rows)[:, self._columns].contiguous()

    def __repr__(self) -> str:
        return (
            f"ActivationCache, {self.d_in} of {self._whole.d_in} columns: {hook_text(self.hook_name)}\n"
            f"  of {self._whole!r}"
        )


class _CachedBatches(ActivationBatches):
    def __init__(
        self, cache: ActivationCache, batch_size: int, seed: int, n_epochs: int | None, device: torch.device
    ) -> None:
        if batch_size < 1 or (n_epochs is not None and n_epochs < 1):
            raise ConfigError(
                "no batches", got=f"batch_size={batch_size}, n_epochs={n_epochs}", accepted="both at least 1"
            )
        if batch_size > cache.n_tokens:
            raise DataError(
                "the cache has fewer tokens than one batch",
                got=f"{cache.n_tokens} kept tokens, batch_size={batch_size}",
                fix=f"pass batch_size={cache.n_tokens} or less, or cache more text",
            )
        self.hook_name, self.widths, self.token_filter, self.batch_size = (
            cache.hook_name,
            cache.widths,
            cache.token_filter,
            batch_size,
        )
        self._cache, self._seed, self._n_epochs = cache, seed, n_epochs
        self.device, self._n_drawn, self._batches = device, 0, self._read(0)

    @property
    def n_tokens_per_epoch(self) -> int:
        return self._cache.n_tokens

    def __next__(self) -> Float[Tensor, "batch d_in"]:
        x = next(self._batches)
        self._n_drawn += self.batch_size
        return x

    def _read(self, n_drawn: int) -> Iterator[Tensor]:
        """The batches after the first `n_drawn` tokens, read one ahead."""

        def read() -> Iterator[Tensor]:
            n, at = self._cache.n_tokens, n_drawn
            shuffled: tuple[int, Tensor] = (-1, torch.empty(0))
            while self._n_epochs is None or at + self.batch_size <= n * self._n_epochs:
                rows: list[Tensor] = []
                end = at + self.batch_size
                while at < end:
                    epoch, row = divmod(at, n)
                    if shuffled[0] != epoch:
                        generator = torch.Generator().manual_seed(mixed_seed(self._seed, epoch))
                        shuffled = epoch, torch.randperm(n, generator=generator)
                    rows.append(shuffled[1][row : row + end - at])
                    at += len(rows[-1])
                yield to_device(self._cache.x(torch.cat(rows)), self.device)

        return prefetch(read(), thread=True)

    def _identity(self) -> dict[str, Any]:
        return {"kind": "cache", "cache": self._cache.digest, "batch_size": self.batch_size, "seed": self._seed}

    def state_dict(self) -> dict[str, Any]:
        return {"identity": self._identity(), "n_drawn": self._n_drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._check_state(state, self._identity())
        self._n_drawn = state["n_drawn"]
        self._batches = self._read(self._n_drawn)
