"""A sparse matrix by rows, as three arrays that are stored as they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse


class Sparse(NamedTuple):
    """A sparse matrix by rows: row r holds column[start[r]:start[r + 1]], ascending, with their values."""

    start: np.ndarray  # Int64 [n_rows + 1]
    column: np.ndarray  # Int32 [nnz]
    value: np.ndarray  # Float32 [nnz]

    @property
    def n_rows(self) -> int:
        return len(self.start) - 1

    def transpose(self, n_columns: int) -> Sparse:
        """The same matrix by columns, in time linear in its entries.

        >>> import numpy as np
        >>> from saekit.index.sparse import Sparse
        >>> Sparse(np.array([0, 2, 3]), np.array([0, 2, 2]), np.array([1.0, 2.0, 3.0])).transpose(3).column.tolist()
        [0, 0, 1]
        """
        rows = sparse.csr_matrix((self.value, self.column, self.start), shape=(self.n_rows, n_columns))
        m = rows.tocsc()
        return Sparse(m.indptr.astype(np.int64), m.indices.astype(np.int32, copy=False), m.data)
