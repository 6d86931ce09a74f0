"""Digests that tell activations from others.

All that lies in memory is read, and of a file that is memory-mapped as much as takes a few seconds. Values count as
single precision, as which they are trained on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

WHOLE_BYTES = 4 * 2**30
"""The largest memory-mapped file that is read whole."""
N_SAMPLED = 16_384
"""Rows that are read of a larger one."""
_CHUNK_BYTES = 2**25


def digest_of_arrays(arrays: Sequence[Any]) -> str:
    """16 hexadecimal digits of the shapes and the values of arrays [n, d_in], tensors or numpy.

    Every row counts. Of a memory-mapped array above 4 GiB these do: the first, the last and 16,384 drawn at random, the
    same ones each time, and the size of its file and when it was written.

    >>> from saekit.activations.array_digest import digest_of_arrays
    >>> x = torch.zeros(5000, 8)
    >>> before = digest_of_arrays([x])
    >>> x[4321, 5] = 1
    >>> digest_of_arrays([x]) == before, digest_of_arrays([x]) == digest_of_arrays([x.numpy()])
    (False, True)
    """
    digest = hashlib.sha256()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # hashing leaves the interpreter to other threads
        for rows in arrays:
            digest.update(repr(tuple(rows.shape)).encode())
            if isinstance(rows, np.memmap) and rows.nbytes > WHOLE_BYTES:
                digest.update(_written(rows))
                rows = rows[_sampled(len(rows))]
            for part in pool.map(_hash, _chunks(rows)):
                digest.update(part)
    return digest.hexdigest()[:16]


def as_floats(rows: Any) -> Tensor:
    """Rows of an array in single precision on the CPU."""
    x = rows if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows, dtype=np.float32))
    return x.detach().to("cpu", torch.float32)


def _chunks(rows: Any) -> Iterator[Any]:
    n = max(1, _CHUNK_BYTES // (4 * rows.shape[1]))
    return (rows[start : start + n] for start in range(0, len(rows), n))


def _hash(rows: Any) -> bytes:
    return hashlib.sha256(as_floats(rows).contiguous().numpy().data).digest()


def _sampled(n: int) -> np.ndarray:
    drawn = np.random.Generator(np.random.PCG64(0)).integers(n, size=N_SAMPLED)
    return np.unique(np.concatenate([[0, n - 1], drawn]))


def _written(rows: np.memmap) -> bytes:
    """The size of the file of a memory-mapped array and when it was written."""
    path = None if rows.filename is None else Path(rows.filename)
    if path is None or not path.is_file():
        return b""
    found = path.stat()
    return repr((found.st_size, found.st_mtime_ns)).encode()
