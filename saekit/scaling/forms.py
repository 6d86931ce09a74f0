"""The laws that are fitted: sums of powers, each term the exponential of something linear in its parameters.

    L(n, k)       exp(alpha + beta_k log k + beta_n log n + gamma log k log n) + exp(zeta + eta log k)
    L(n)          exp(alpha + beta_n log n) + exp(zeta), the same with one sparsity
    L(n, tokens)  exp(alpha + beta_n log n) + exp(delta + beta_t log tokens) + exp(zeta)

n is the width, the logarithms are natural and the last term is the irreducible loss. Fitted in least_squares.py.

Sources: Gao et al. 2024 (arXiv:2406.04093), sections 3.1.3 and 3.1.4, for L(n) and L(n, k); Hoffmann et al. 2022
(arXiv:2203.15556), approach 3, for the surface over size and tokens. On the surface's best path loss falls as
L(C) = e + c C^-b, the form that Gao et al. fit over compute (3.1.1), and best width and steps are powers of compute, as
Templeton et al. 2024 (Scaling Monosemanticity, "Scaling laws") find them to be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import DataError

Doubles = npt.NDArray[np.float64]
Columns = Mapping[str, Doubles]
FLOORS = (0.02, 0.35, 0.65, 0.92)
"""Fractions of the smallest loss at which the irreducible term begins."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Form:
    """A law: its inputs, its parameters, and a design matrix for each of its terms."""

    formula: str
    inputs: tuple[str, ...]
    """Columns it reads."""
    parameters: tuple[str, ...]
    """In the order of the columns of the design matrices, one term after the other."""
    terms: Callable[[Columns], list[Doubles]]
    """Design matrices [n_runs, parameters of the term]; the last is of the irreducible term."""
    fewest: Mapping[str, int]
    """Distinct values of each input it takes to identify the parameters."""

    @property
    def fewest_runs(self) -> int:
        """Two more than there are parameters, so that scatter can be seen."""
        return len(self.parameters) + 2


def _powers(*columns: Doubles) -> Doubles:
    return np.stack([np.ones_like(columns[0]), *columns], axis=1) if columns else np.empty(0)


def _lnk(c: Columns) -> list[Doubles]:
    n, k = np.log(c["width"]), np.log(c["sparsity"])
    return [_powers(k, n, k * n), _powers(k)]


def _ln(c: Columns) -> list[Doubles]:
    n = np.log(c["width"])
    return [_powers(n), np.ones((len(n), 1))]


def _surface(c: Columns) -> list[Doubles]:
    n, t = np.log(c["width"]), np.log(c["n_tokens"])
    return [_powers(n), _powers(t), np.ones((len(n), 1))]


LNK = Form(
    formula="L(n, k) = exp(alpha + beta_k log k + beta_n log n + gamma log k log n) + exp(zeta + eta log k)",
    inputs=("width", "sparsity"),
    parameters=("alpha", "beta_k", "beta_n", "gamma", "zeta", "eta"),
    terms=_lnk,
    fewest={"width": 3, "sparsity": 2},
)
LN = Form(
    formula="L(n) = exp(alpha + beta_n log n) + exp(zeta)",
    inputs=("width",),
    parameters=("alpha", "beta_n", "zeta"),
    terms=_ln,
    fewest={"width": 3},
)
SURFACE = Form(
    formula="L(n, tokens) = exp(alpha + beta_n log n) + exp(delta + beta_t log tokens) + exp(zeta)",
    inputs=("width", "n_tokens"),
    parameters=("alpha", "beta_n", "delta", "beta_t", "zeta"),
    terms=_surface,
    fewest={"width": 3, "n_tokens": 3},
)


def log_terms(form: Form, columns: Columns, theta: Doubles) -> Doubles:
    """Logarithm of each term [..., n_terms, n_runs] for parameters [..., n_parameters]."""
    out, first = [], 0
    for X in form.terms(columns):
        out.append(theta[..., first : first + X.shape[1]] @ X.T)
        first += X.shape[1]
    return np.stack(out, axis=-2)


def first_guesses(form: Form, columns: Columns, log_loss: Doubles) -> Iterator[Doubles]:
    """Starts: an irreducible term at some fraction of the smallest loss, the rest divided among the other terms."""
    *terms, floor = form.terms(columns)
    loss = np.exp(log_loss)
    _, of_row = np.unique(floor, axis=0, return_inverse=True)  # runs that have the same irreducible loss
    of_row = of_row.reshape(-1)
    smallest = np.array([loss[of_row == i].min() for i in range(of_row.max() + 1)])[of_row]
    splits = [[1.0]] if len(terms) == 1 else [[0.5, 0.5], [0.85, 0.15], [0.15, 0.85]]
    for fraction in FLOORS:
        zeta = np.linalg.lstsq(floor, np.log(fraction * smallest), rcond=None)[0]
        rest = np.maximum(loss - np.exp(floor @ zeta), 0.02 * loss)
        for split in splits:
            guesses = [np.linalg.lstsq(X, np.log(s * rest), rcond=None)[0] for X, s in zip(terms, split, strict=True)]
            yield np.concatenate([*guesses, zeta])


def check_enough(form: Form, columns: Columns) -> None:
    """DataError unless there are runs enough, at values enough, to fit the form and see how badly it fits."""
    n = len(columns[form.inputs[0]])
    distinct = {name: len(np.unique(columns[name])) for name in form.inputs}
    words = {"width": "widths", "sparsity": "sparsities", "n_tokens": "token budgets"}
    wanted = ", ".join(f"{form.fewest[name]} {words[name]}" for name in form.inputs)
    short = n < form.fewest_runs or any(distinct[name] < form.fewest[name] for name in form.inputs)
    if short or any(np.linalg.matrix_rank(X) < X.shape[1] for X in form.terms(columns)):
        raise DataError(
            f"too few runs for the {len(form.parameters)} parameters of {form.formula}",
            got=f"{n} runs: " + ", ".join(f"{distinct[name]} {words[name]}" for name in form.inputs),
            accepted=f"at least {form.fewest_runs} runs, at {wanted} or more",
            fix="train a larger grid",
        )
