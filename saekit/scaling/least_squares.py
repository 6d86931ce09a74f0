"""A law and a table of runs as a problem of least squares on log loss, solved by Levenberg and Marquardt (scipy).

The solver works in coordinates in which each term's design matrix has orthonormal columns, for logarithms of widths are
all but constant. It takes one more residual on request: a weight times the distance of some quantity of the law from a
given value. With a large weight that holds the quantity where it is wanted, with weight 1 and a predicted log loss it
is one more run; profiles.py is made of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .forms import Columns, Doubles, Form

ANCHOR = 1e-6
"""Pull of the logarithm of the irreducible term to that of the smallest loss: where there is no such term its logarithm
ends near -20, not at minus infinity. Other parameters move by about this much."""
STEP = 1e-6
"""Of central differences, in the orthonormal coordinates."""
PRECISE = {"ftol": 1e-12, "xtol": 1e-10, "maxfev": 300}
NEAR = {"ftol": 1e-7, "xtol": 1e-6, "maxfev": 100}
"""Ends of an interval need no more than three digits of a sum of squares' rise."""
FAR = 1e9
"""Of a quantity that is not a number."""

Quantity = Callable[[Doubles], Doubles]
"""Something that the parameters [..., n_parameters] determine [...]: a parameter, a loss, a best width."""


class Pull(NamedTuple):
    """One more residual: weight * (quantity - target)."""

    quantity: Quantity
    target: float
    weight: float


class LeastSquares:
    """The sum of squared residuals log(law / loss) of a table of runs, and its minima."""

    def __init__(self, form: Form, columns: Columns, log_loss: Doubles) -> None:
        blocks = form.terms(columns)
        ends = np.cumsum([0, *(X.shape[1] for X in blocks)])
        self.log_loss, self.n_parameters = log_loss, int(ends[-1])
        self._design = np.zeros((len(blocks), len(log_loss), self.n_parameters))
        """Orthonormal columns of each term, zero in the places of other terms' parameters."""
        self._to_theta, self._to_phi = np.zeros((2, self.n_parameters, self.n_parameters))
        for i, X in enumerate(blocks):
            here = slice(ends[i], ends[i + 1])
            Q, R = np.linalg.qr(X)
            self._design[i, :, here] = Q
            self._to_phi[here, here], self._to_theta[here, here] = R, np.linalg.inv(R)
        self._floor = self._design[-1]

    def residuals(self, theta: Doubles) -> Doubles:
        """log(law / loss) of each run [..., n_runs] at parameters [..., n_parameters]."""
        return self._curve(theta @ self._to_phi.T)[0] - self.log_loss

    def cost(self, theta: Doubles) -> Doubles:
        """The sum of squared residuals [...]."""
        out: Doubles = np.square(self.residuals(theta)).sum(axis=-1)
        return out

    def jacobian(self, theta: Doubles) -> Doubles:
        """Slopes of the residuals [n_runs, n_parameters] by the orthonormal coordinates."""
        return self._slopes(self._curve(self._to_phi @ theta)[1])

    def gradient(self, quantity: Quantity, theta: Doubles) -> Doubles:
        """Slopes of a quantity by the orthonormal coordinates, by central differences."""
        return self._gradient(quantity, self._to_phi @ theta)

    def solve(self, starts: Sequence[Doubles], pull: Pull | None = None) -> Doubles:
        """The parameters with the least sum of squares, the pull's included: the best end of all starts."""
        from scipy.optimize import leastsq

        def residual(phi: Doubles) -> Doubles:
            parts = [self._curve(phi)[0] - self.log_loss, ANCHOR * (self._floor @ phi - self.log_loss.min())]
            if pull is not None:
                away = float(pull.weight * (pull.quantity(self._to_theta @ phi) - pull.target))
                parts.append(np.array([away if np.isfinite(away) else FAR]))
            return np.concatenate(parts)

        def slopes(phi: Doubles) -> Doubles:
            parts = [self._slopes(self._curve(phi)[1]), ANCHOR * self._floor]
            if pull is not None:
                parts.append(pull.weight * self._gradient(pull.quantity, phi)[None])
            return np.concatenate(parts)

        precise = PRECISE if pull is None else NEAR
        best, least = None, np.inf
        for theta in starts:
            phi = leastsq(residual, self._to_phi @ theta, Dfun=slopes, full_output=True, **precise)[0]
            cost = float(np.square(residual(phi)).sum())
            if best is None or cost < least:
                best, least = phi, cost
        assert best is not None
        out: Doubles = self._to_theta @ best
        return out

    def _curve(self, phi: Doubles) -> tuple[Doubles, Doubles]:
        """The law's log loss [..., n_runs], and the share that each term has of the loss [..., n_terms, n_runs]."""
        z = np.einsum("trp,...p->...tr", self._design, phi)
        top = z.max(axis=-2, keepdims=True)
        terms = np.exp(z - top)
        total = terms.sum(axis=-2, keepdims=True)
        return (np.log(total) + top)[..., 0, :], terms / total

    def _slopes(self, share: Doubles) -> Doubles:
        out: Doubles = np.einsum("tr,trp->rp", share, self._design)
        return out

    def _gradient(self, quantity: Quantity, phi: Doubles) -> Doubles:
        steps = STEP * np.maximum(1.0, np.abs(phi))
        around = np.concatenate([phi + np.diag(steps), phi - np.diag(steps)]) @ self._to_theta.T
        ahead, behind = np.split(quantity(around), 2)
        out: Doubles = (ahead - behind) / (2 * steps)
        return out
