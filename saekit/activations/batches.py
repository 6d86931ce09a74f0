"""Shuffled batches of activations, straight from a model and a corpus.

The windows of an epoch are put in a random order, run through the model, and their tokens dropped into a pool; a batch
is drawn from the pool at random and the model fills the gap. A token so waits in the pool for a random time, and its
neighbours are spread as a full shuffle of about twice the pool would spread them. The pool runs on from one epoch into
the next and is emptied at the end of the last.

The pool lies on the device the batches are for; what is drawn is decided on the host, which never waits for a batch. A
model on a GPU starts on its next windows before the last ones are dropped into the pool, so that the host waits for
a run that was started one run earlier. On a CPU nothing is prefetched: a thread that runs the model while the SAE
trains can save at most the SAE's fraction of the time, some 5 % for 4,096 features, and on two cores it gained less
than the measurements scatter.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import chain, count
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import checks_arguments
from ..corpus import AnyCorpus, Corpus, Windows, as_corpus, iter_windows, tokenize
from ..errors import ConfigError, DataError, MismatchError
from ..hook_points import HookPoint, hook_names
from ..models import LanguageModel
from ..sae import TokenFilter
from .columns import Columns
from .displays import batches_html
from .forward import WINDOWS_PER_RUN, WindowsForward, nothing_kept
from .prefetch import checked_device, prefetch, to_device
from .token_filter import fit_token_filter

_RUNS_PER_SORT = 8


class ActivationBatches(Columns, ABC, Iterator[Tensor]):
    """An iterator of batches [batch_size, d_in] of shuffled activations, float32 on `device`.

    Of several hook points, a tuple of names, the activations stand side by side: see `columns`.

    Every token that the token filter keeps is seen once an epoch, each epoch in a new order. Batches are full; the
    tokens that do not fill a last batch at the end of all epochs, fewer than `batch_size`, are the only ones left out.
    The order depends on the seed alone, and a run resumes bit for bit from `state_dict`.
    """

    batch_size: int
    device: torch.device

    @property
    @abstractmethod
    def n_tokens_per_epoch(self) -> int | None:
        """Tokens kept in one epoch; None until the first has been read."""

    @property
    def origin(self) -> dict[str, str] | None:
        """What they are drawn from, to tell whether a run goes on with the same: a digest and a description in words.

        None where it is not known.
        """
        return None

    @abstractmethod
    def __next__(self) -> Float[Tensor, "batch d_in"]: ...

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to resume from here."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resumes from a saved state; MismatchError when it comes from other batches."""

    def _check_state(self, state: dict[str, Any], identity: dict[str, Any]) -> None:
        saved = state.get("identity", {})
        saved = {{"rule": "token_filter"}.get(key, key): value for key, value in saved.items()}  # of earlier versions
        for key, mine in identity.items():
            if saved.get(key) != mine and not (key == "begins_with" and key not in saved):  # earlier versions lack it
                raise MismatchError(
                    f"the saved state is of other batches: {key} differs",
                    got=saved.get(key),
                    accepted=mine,
                    fix="make the batches with the same arguments as before, or start again",
                )

    _repr_html_ = batches_html


def mixed_seed(*parts: int) -> int:
    """One seed from several numbers, the same in every version of Python."""
    return random.Random(":".join(map(str, parts))).getrandbits(63)


@checks_arguments
def activation_batches(
    model: LanguageModel,
    corpus: AnyCorpus | Windows,
    hook_name: HookPoint,
    *,
    batch_size: int,
    token_filter: TokenFilter | None = None,
    buffer_tokens: int = 65_536,
    length: int = 128,
    prepend_bos: bool | None = None,
    seed: int = 0,
    n_epochs: int | None = None,
    device: str | torch.device = "cpu",
) -> ActivationBatches:
    """Shuffled batches of activations at a hook point; the model runs as they are asked for.

    Several hook points, a tuple of names, are read in one run of the model. `token_filter` None finds one with
    `fit_token_filter`. `buffer_tokens` tokens are mixed at a time, on the `device` where the batches are to be used
    (float32: 4 * d_in bytes each), and the first batch comes once they are filled. `n_epochs` None repeats without end.
    To train more than once on the same text use `cache_activations`, which runs the model once. A corpus that is a
    stream is tokenised as it is read and shuffled within stretches of four buffers.

    Raises UnknownNameError for the hook; DataError for activations that are not finite and for text with fewer kept
    tokens than one batch.

    >>> batches = sk.activation_batches(model, corpus, HOOK, batch_size=64, length=16, n_epochs=1)
    >>> next(batches).shape
    torch.Size([64, 32])
    """
    model.hook_width(hook_name)  # raises before anything is run
    for name, value in [("batch_size", batch_size), ("n_epochs", 1 if n_epochs is None else n_epochs)]:
        if value < 1:
            raise ConfigError(f"{name} is not positive", got=value, accepted="an integer of at least 1")
    if buffer_tokens < batch_size:
        raise ConfigError(
            "buffer_tokens does not hold one batch",
            got=buffer_tokens,
            accepted=f"at least batch_size={batch_size}; ten times as much mixes well",
        )
    if not isinstance(corpus, Windows):
        corpus = as_corpus(corpus, also="Windows")
    if isinstance(corpus, Corpus) and corpus.in_memory:
        corpus = tokenize(corpus, model, length=length, prepend_bos=prepend_bos)
    where = checked_device(device)
    return _ModelBatches(
        model, corpus, hook_name, batch_size, token_filter, buffer_tokens, length, prepend_bos, seed, n_epochs, where
    )


class _Begun(NamedTuple):
    """What comes next for the pool: a run of the model, or the end of an epoch."""

    run: WindowsForward | None
    windows: Windows
    then: tuple[int, int, int]
    """Epoch, chunk and run to read after this."""


class _ModelBatches(ActivationBatches):
    def __init__(
        self,
        model: LanguageModel,
        source: Corpus | Windows,
        hook_name: HookPoint,
        batch_size: int,
        token_filter: TokenFilter | None,
        buffer_tokens: int,
        length: int,
        prepend_bos: bool | None,
        seed: int,
        n_epochs: int | None,
        device: torch.device,
    ) -> None:
        self.hook_name, self.batch_size, self.device = hook_name, batch_size, device
        self.widths = tuple(model.hook_width(name) for name in hook_names(hook_name))
        self._model, self._source, self._length, self._prepend_bos = model, source, length, prepend_bos
        self._seed, self._n_epochs, self._buffer_tokens = seed, n_epochs, buffer_tokens
        first = next(opened := self._open())
        self._begins_with = None if isinstance(source, Windows) else first.digest
        token_filter = token_filter or fit_token_filter(model, first, hook_name)
        self.token_filter = TokenFilter.joined(token_filter.split(self.widths), self.widths)
        self._opened: Iterator[Windows] | None = chain([first], opened)  # a generator cannot be opened twice
        n_pool = buffer_tokens
        if isinstance(source, Windows):
            n_pool = max(min(n_pool, source.n_tokens), batch_size)
        self._full = n_pool
        self._pool = torch.empty(n_pool + WINDOWS_PER_RUN * first.length, self.d_in, device=device)
        self._n_pool = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._at = (0, 0, 0)  # epoch, chunk and run to read next
        self._n_read = 0  # tokens kept so far in this epoch
        self._n_tokens_per_epoch: int | None = None
        self._runs = self._read(self._at)

    @property
    def n_tokens_per_epoch(self) -> int | None:
        return self._n_tokens_per_epoch

    @property
    def origin(self) -> dict[str, str]:
        if isinstance(s := self._source, Windows):
            return {"digest": s.digest, "described": f"{s.n_documents:,} documents, {s.n_tokens:,} tokens"}
        return {"digest": str(self._begins_with), "described": f"{s.name}, read as a stream: its first windows"}

    def __next__(self) -> Float[Tensor, "batch d_in"]:
        while self._n_pool < self._full and (run := next(self._runs, None)) is not None:
            self._take(run)
        if self._n_pool < self.batch_size:
            raise StopIteration
        return self._draw()

    def _take(self, begun: _Begun) -> None:
        """Drops the tokens of a run of the model into the pool's free rows."""
        if begun.run is None:
            self._end_epoch(begun.windows)
        else:
            _, x = begun.run.kept(into=self._pool[self._n_pool :])
            self._n_pool, self._n_read = self._n_pool + len(x), self._n_read + len(x)
        self._at = begun.then

    def _draw(self) -> Tensor:
        """A random batch of the pool; the tokens at its end close the gaps."""
        left = self._n_pool - self.batch_size
        chosen = torch.randperm(self._n_pool, generator=self._generator)[: self.batch_size]
        stays = torch.ones(self.batch_size, dtype=torch.bool)
        stays[chosen[chosen >= left] - left] = False
        gaps, movers = chosen[chosen < left], left + stays.nonzero()[:, 0]
        self._n_pool = left
        rows = to_device(torch.cat([chosen, gaps, movers]), self.device)
        return moved(self._pool, *torch.split(rows, [len(chosen), len(gaps), len(movers)]))

    def _open(self) -> Iterator[Windows]:
        if isinstance(self._source, Windows):
            return iter([self._source])
        chunk = max(1024, 4 * self._buffer_tokens // self._length)
        return iter_windows(
            self._source, self._model, length=self._length, prepend_bos=self._prepend_bos, chunk_windows=chunk
        )

    def _read(self, start: tuple[int, int, int]) -> Iterator[_Begun]:
        """One run of the model after another, from `start` on, over all epochs; on a GPU each is begun before the one
        in front of it is handed out."""
        begun = self._begin(start)
        return prefetch(begun, thread=False) if self._model.device.type == "cuda" else begun

    def _begin(self, start: tuple[int, int, int]) -> Iterator[_Begun]:
        for epoch in count(start[0]) if self._n_epochs is None else range(start[0], self._n_epochs):
            opened, self._opened = self._opened or self._open(), None
            for chunk, windows in enumerate(opened):
                if (epoch, chunk) < start[:2]:
                    continue
                for n, rows in enumerate(self._order(windows, epoch, chunk)):
                    if (epoch, chunk, n) >= start:
                        run = WindowsForward(self._model, windows, rows, self.hook_name, self.token_filter)
                        yield _Begun(run, windows, (epoch, chunk, n + 1))
            yield _Begun(None, windows, (epoch + 1, 0, 0))

    def _order(self, windows: Windows, epoch: int, chunk: int) -> Iterator[Tensor]:
        """The windows of each run: in random order, windows of similar length together within every eight runs."""
        generator = torch.Generator().manual_seed(mixed_seed(self._seed, epoch, chunk))
        order = torch.randperm(len(windows), generator=generator)
        for stretch in torch.split(order, WINDOWS_PER_RUN * _RUNS_PER_SORT):
            runs = torch.split(stretch[windows.lengths[stretch].argsort(stable=True)], WINDOWS_PER_RUN)
            for i in torch.randperm(len(runs), generator=generator).tolist():
                yield runs[i]

    def _end_epoch(self, windows: Windows) -> None:
        if self._n_read == 0:
            raise nothing_kept(windows, self.token_filter)
        if self._n_read < self.batch_size:
            raise DataError(
                "the text has fewer tokens than one batch",
                got=f"{self._n_read} kept tokens, batch_size={self.batch_size}",
                fix=f"pass batch_size={self._n_read} or less, or more text",
            )
        self._n_tokens_per_epoch, self._n_read = self._n_read, 0

    def _identity(self) -> dict[str, Any]:
        source = self._source.digest if isinstance(self._source, Windows) else self._source.name
        return {
            "kind": "model",
            "text": source,
            **({} if self._begins_with is None else {"begins_with": self._begins_with}),
            "model": self._model.fingerprint,
            "weight_processing": self._model.weight_processing,
            "hook_name": self.hook_name if isinstance(self.hook_name, str) else list(self.hook_name),
            "token_filter": self.token_filter.to_dict(),
            "batch_size": self.batch_size,
            "buffer_tokens": self._buffer_tokens,
            "length": self._length,
            "seed": self._seed,
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "identity": self._identity(),
            "at": self._at,
            "n_read": self._n_read,
            "n_tokens_per_epoch": self._n_tokens_per_epoch,
            "generator": self._generator.get_state(),
            "pool": self._pool[: self._n_pool].to("cpu", copy=True),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._check_state(state, self._identity())
        self._at, self._n_read = tuple(state["at"]), state["n_read"]
        self._n_tokens_per_epoch = state["n_tokens_per_epoch"]
        self._generator.set_state(state["generator"])
        self._n_pool = len(state["pool"])
        self._pool[: self._n_pool] = state["pool"]
        self._runs = self._read(self._at)


def moved(pool: Tensor, chosen: Tensor, gaps: Tensor, movers: Tensor) -> Tensor:
    """The chosen rows of the pool, whose gaps the movers then fill. All on one device, without a look at any number."""
    batch = pool.index_select(0, chosen)
    pool.index_copy_(0, gaps, pool.index_select(0, movers))
    return batch
