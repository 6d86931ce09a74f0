"""The statistics of every feature in an index, by name: those that come with saekit, and those that users register.

A statistic is a function of a FeatureBlock, the firings of some features, that gives one number for each of them. Its
name becomes a column of `FeatureIndex.features` and a key of `FeatureRecord.stats`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import ConfigError
from .feature_block import FeatureBlock, changes

Compute = Callable[[FeatureBlock], npt.ArrayLike]

OTHER_COLUMNS = (
    *("feature", "name", "label", "histogram", "neighbours", "cosines", "nearest", "nearest_cosine"),
    *("promoted", "promoted_effect", "suppressed", "suppressed_effect"),
)
"""Columns of the tables of features that are no statistics."""


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """One number about every feature."""

    name: str
    dtype: np.dtype[Any]
    """As which it is stored."""
    compute: Compute
    """One number for each feature of a block [n_features]."""


STATISTICS: dict[str, Statistic] = {}
"""Every statistic by its name, in the order of columns. `register_statistic` adds to it."""


def register_statistic(name: str, dtype: npt.DTypeLike = np.float32) -> Callable[[Compute], Compute]:
    """A decorator that adds a statistic to every index built from here on, under `name`, stored as `dtype`.

    The function gets a FeatureBlock and returns one number for each of its features. It runs in several threads. Its
    cell can be run again: a function of the same module and name replaces the one before. ConfigError for a name that
    is taken or no Python name.

    >>> @sk.index.register_statistic("median")
    ... def median(block):
    ...     return block.each(lambda activations: np.median(activations))
    >>> index = sk.build_index(model, sae, corpus.take(5), out=tmp_path / "index", length=32, progress=False)
    >>> bool((index.features["median"] <= index.features["max"]).all())
    True
    >>> _ = sk.index.statistics.STATISTICS.pop("median", None)
    """
    if not isinstance(name, str) or not name.isidentifier() or name in OTHER_COLUMNS:
        raise ConfigError(
            "not a name for a statistic",
            got=repr(name),
            accepted=f"a Python name other than {', '.join(OTHER_COLUMNS)}",
            fix='@sk.index.register_statistic("gini")',
        )

    def register(compute: Compute) -> Compute:
        taken = STATISTICS.get(name)
        if taken is not None and _qualified(taken.compute) != _qualified(compute):
            raise ConfigError(
                f"the name {name!r} is taken",
                got=_qualified(compute),
                accepted=f"a name other than {', '.join(STATISTICS)}",
                fix=f"choose another name: {name!r} is {_qualified(taken.compute)}",
            )
        STATISTICS[name] = Statistic(name=name, dtype=np.dtype(dtype), compute=compute)
        return compute

    return register


def statistics_of(block: FeatureBlock) -> pd.DataFrame:
    """Every statistic of the features of a block; ConfigError for one that does not give one number a feature."""
    return pd.DataFrame({statistic.name: _column(statistic, block) for statistic in STATISTICS.values()})


def _column(statistic: Statistic, block: FeatureBlock) -> np.ndarray:
    numbers = np.asarray(statistic.compute(block))
    if numbers.shape != (block.n_features,):
        raise ConfigError(
            f"the statistic {statistic.name!r} does not give one number for each feature",
            got=f"an array of shape {list(numbers.shape)}",
            accepted=f"shape [{block.n_features}]",
            fix="return an array with one number for each feature of the block",
        )
    return numbers.astype(statistic.dtype, copy=False)


def _qualified(compute: Compute) -> str:
    return f"{compute.__module__}.{getattr(compute, '__qualname__', type(compute).__qualname__)}"


@register_statistic("density", np.float64)
def density(block: FeatureBlock) -> np.ndarray:
    """The fraction of tokens on which the feature fires."""
    fraction: np.ndarray = block.count / max(len(block.tokens.position), 1)
    return fraction


@register_statistic("n_firings", np.int64)
def n_firings(block: FeatureBlock) -> np.ndarray:
    """The tokens on which the feature fires."""
    return block.count


@register_statistic("n_documents", np.int64)
def n_documents(block: FeatureBlock) -> np.ndarray:
    """The documents in which the feature fires."""
    document = block.tokens.document[block.token]
    width = int(document.max(initial=0)) + 1
    pairs = block.feature * np.int64(width) + document
    if document.min(initial=0) < 0:
        pairs = pairs[document >= 0]
    if np.any(pairs[1:] < pairs[:-1]):  # documents not in the corpus' order
        pairs = np.sort(pairs)
    return np.bincount(pairs[changes(pairs)] // width, minlength=block.n_features)


@register_statistic("max")
def largest(block: FeatureBlock) -> np.ndarray:
    """The largest activation; 0 for a silent feature."""
    return block.max


@register_statistic("mean")
def mean(block: FeatureBlock) -> np.ndarray:
    """The mean activation where the feature fires; 0 for a silent one."""
    return block.mean


@register_statistic("std")
def std(block: FeatureBlock) -> np.ndarray:
    """The standard deviation of the activation where the feature fires; 0 for a silent one."""
    value = block.value.astype(np.float64)
    value -= np.repeat(block.mean, block.count)
    value *= value
    deviation: np.ndarray = np.sqrt(block.reduce(np.add, value) / np.maximum(block.count, 1))
    return deviation


@register_statistic("silent", np.bool_)
def silent(block: FeatureBlock) -> np.ndarray:
    """Whether the feature never fires on this text."""
    return ~block.live


BUILT_IN = tuple(STATISTICS)
"""The statistics that come with saekit: every index has these."""
