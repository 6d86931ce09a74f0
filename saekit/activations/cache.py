"""Activations on disk, read: all of them or the parts of some documents or hook points, in order or shuffled.

Shards stay memory-mapped; what is asked for comes as float32. How they are written is in `harvest`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ..arguments import checks_arguments
from ..corpus import Windows
from ..errors import ConfigError, DataError, MismatchError
from ..hook_points import HookPoint, hook_names, hook_text
from ..models import LanguageModel
from ..sae import TokenFilter
from .batches import ActivationBatches, mixed_seed
from .columns import Columns
from .displays import cache_html
from .prefetch import checked_device, prefetch, to_device
from .shards import ShardFiles
from .source import Provenance, check_provenance


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ActivationCache(Columns):
    """Activations of a text at a hook point, on disk, with the text's windows. Made by `cache_activations`.

    Those of several hook points stand side by side; `at` gives the part of some of them, `split` that of some
    documents. Such parts share the files: nothing is copied on disk.

    The shards stay on disk, memory-mapped; rows that are asked for come as float32 copies, yours to change.
    """

    files: ShardFiles
    windows: Windows
    hook_name: HookPoint
    widths: tuple[int, ...]
    token_filter: TokenFilter
    digest: str
    """16 hexadecimal digits of all that it gives."""
    rows: Int64[Tensor, " n_tokens"] | None = None
    """Which of the files' tokens it has; None: all."""
    row_positions: Int64[Tensor, " n_tokens"] | None = None
    """The positions of `rows` in the windows of this part."""
    file_columns: slice | Int64[Tensor, " d_in"] | None = None
    """Which of the files' columns it has; None: all."""

    @classmethod
    def opened(cls, path: Path, manifest: dict[str, Any]) -> ActivationCache:
        """All that is in a folder."""
        files, hook = ShardFiles(path, manifest), manifest["hook_name"]
        return cls(
            files=files,
            windows=Windows.load(path),
            hook_name=hook if isinstance(hook, str) else tuple(hook),
            widths=tuple(manifest.get("widths", [manifest["d_in"]])),
            token_filter=TokenFilter.from_dict(manifest["token_filter"]),
            digest=hashlib.sha256("".join(s["sha256"] for s in manifest["shards"]).encode()).hexdigest()[:16],
        )

    @property
    def path(self) -> Path:
        """The folder."""
        return self.files.path

    @property
    def provenance(self) -> Provenance:
        """The model and weight processing that were read."""
        f = self.files
        return Provenance(
            model_name=f.model_name,
            model_fingerprint=f.model_fingerprint,
            weight_processing=f.weight_processing,
            context_size=self.windows.length,
            prepend_bos=self.windows.prepends_bos,
        )

    @property
    def n_tokens(self) -> int:
        """Kept tokens."""
        return self.files.n_tokens if self.rows is None else len(self.rows)

    @property
    def position(self) -> Int64[Tensor, " n_tokens"]:
        """For each kept token window * length + place in the window; ascending."""
        return self.files.position if self.row_positions is None else self.row_positions

    def x(self, rows: slice | Sequence[int] | Int64[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        """The activations of these kept tokens, in the order asked for.

        >>> cache = sk.cache_activations(model, corpus, HOOK, tmp_path, length=16, progress=False)
        >>> cache.x([2, 0]).shape
        torch.Size([2, 32])
        """
        if not isinstance(rows, slice):
            rows = torch.as_tensor(rows, dtype=torch.long)
            if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= self.n_tokens):
                raise DataError(
                    "a row outside the cache",
                    got=f"{int(rows.min())} to {int(rows.max())}",
                    accepted=f"0 to {self.n_tokens - 1}",
                )
        found = self.files.x(rows if self.rows is None else self.rows[rows])
        return found if self.file_columns is None else found[:, self.file_columns].contiguous()

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
        self.files.release()

    @checks_arguments
    def chunks(self, n_tokens: int = 8192) -> Iterator[tuple[Int64[Tensor, " n"], Float[Tensor, "n d_in"]]]:
        """(position, x) of all kept tokens in the text's order, `n_tokens` at a time.

        >>> cache = sk.cache_activations(model, corpus, HOOK, tmp_path, length=16, progress=False)
        >>> sum(len(x) for position, x in cache.chunks(100)) == cache.n_tokens
        True
        """
        for start in range(0, self.n_tokens, n_tokens):
            part = slice(start, start + n_tokens)
            yield self.position[part], self.x(part)

    @checks_arguments
    def batches(
        self, batch_size: int, seed: int = 0, n_epochs: int | None = None, device: str | torch.device = "cpu"
    ) -> ActivationBatches:
        """Shuffled batches over the whole cache, a full shuffle each epoch; `n_epochs` None repeats without end.

        They come on `device`. From the second on a thread reads each while the one before it is in use.

        >>> cache = sk.cache_activations(model, corpus, HOOK, tmp_path, length=16, progress=False)
        >>> next(cache.batches(32)).shape
        torch.Size([32, 32])
        """
        return _CachedBatches(self, batch_size, seed, n_epochs, checked_device(device))

    @checks_arguments
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
        return self._part(training), self._part(held_out)

    def _part(self, windows: Int64[Tensor, " windows"]) -> ActivationCache:
        """The activations of some of the windows; rows and windows are numbered from 0 again."""
        number = torch.full((len(self.windows),), -1)
        number[windows] = torch.arange(len(windows))
        window, place = self.position // self.windows.length, self.position % self.windows.length
        kept = (number[window] >= 0).nonzero()[:, 0]
        return replace(
            self,
            windows=self.windows.select(windows),
            row_positions=number[window[kept]] * self.windows.length + place[kept],
            rows=kept if self.rows is None else self.rows[kept],
            digest=hashlib.sha256(self.digest.encode() + windows.numpy().tobytes()).hexdigest()[:16],
        )

    def at(self, hook_name: HookPoint) -> ActivationCache:
        """The activations of one hook point, or of several, out of those that are here; nothing is copied on disk.

        Its token filter is theirs alone, but the tokens are those that every hook point of the whole keeps.
        MismatchError for a hook point that is not here.

        >>> cache = sk.cache_activations(
        ...     model, corpus, (HOOK, "embed.hook_out"), tmp_path, length=16, progress=False)
        >>> cache.d_in, cache.at("embed.hook_out").d_in
        (64, 32)
        """
        if hook_name == self.hook_name:
            return self
        columns = self.columns(hook_name)
        if self.file_columns is not None:
            columns = torch.arange(self.files.d_in)[self.file_columns][columns]
        return replace(
            self,
            hook_name=hook_name,
            widths=tuple(self.width(name) for name in hook_names(hook_name)),
            token_filter=self.token_filter_at(hook_name),
            file_columns=columns,
            digest=hashlib.sha256(f"{self.digest} {hook_text(hook_name)}".encode()).hexdigest()[:16],
        )

    def check(self, model: LanguageModel, hook_name: HookPoint | None = None) -> None:
        """Raises MismatchError when the activations are of another model, weight processing or hook point."""
        check_provenance(self.provenance, model, f"the activations in {self.path}")
        if hook_name is not None and hook_name != self.hook_name:
            raise MismatchError(
                f"the activations in {self.path} are of another hook point",
                got=hook_text(hook_name),
                accepted=hook_text(self.hook_name),
                fix="pass that hook point, or write another cache",
            )

    def __len__(self) -> int:
        return self.n_tokens

    def __repr__(self) -> str:
        f = self.files
        head = f"ActivationCache {self.path}"
        if self.rows is not None:
            head += f", {self.n_tokens:,} of its {f.n_tokens:,} tokens: {self.windows.n_documents:,} documents"
        if self.file_columns is not None:
            head += f", {self.d_in} of {f.d_in} columns: {hook_text(self.hook_name)}"
        return (
            f"{head}\n"
            f"  {f.n_tokens:,} tokens x {f.d_in} at {hook_text(f.hook_name)} of "
            f"{f.model_name} ({f.dtype}, {f.nbytes / 1e6:,.0f} MB, {f.n_shards} shards)\n"
            f"  {self.token_filter.describe()}"
        )

    _repr_html_ = cache_html


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

    @property
    def origin(self) -> dict[str, str]:
        c = self._cache
        return {"digest": c.digest, "described": f"{c.n_tokens:,} tokens of the activations in {c.path}"}

    def __next__(self) -> Float[Tensor, "batch d_in"]:
        x = next(self._batches)
        self._n_drawn += self.batch_size
        return x

    def _read(self, n_drawn: int) -> Iterator[Tensor]:
        """The batches after the first `n_drawn` tokens, with one prefetched."""

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
