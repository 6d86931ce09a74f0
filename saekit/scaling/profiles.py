"""Profile likelihood: how far a quantity of a law may lie from its fitted value before the runs contradict it.

The profile of a quantity is the least sum of squares S(c) that the law can have with the quantity held at c; the
interval is where (S(c) - S) / (S / df) stays below the squared t quantile with df = runs - parameters (the F
distribution with 1 and df: exact for laws that are linear in their parameters, whatever their number). It needs no
coordinates in which the law is nearly linear, and it shows what a bootstrap or a standard error hides: a side on which
the profile never rises to the quantile. Such a quantity is not identified, and there is no number for it, only the
limit on its other side.

The band of a further run is the profile of that run's own log loss, taken in as one more run.

Sources: Bates and Watts, Nonlinear Regression Analysis and Its Applications (1988), 6.1; Raue et al. 2009,
"Structural and practical identifiability analysis" (Bioinformatics 25) for profiles that do not close; Bjornstad 1990
(Statistical Science 5) for the prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..statistics import LEVEL
from .forms import Doubles
from .least_squares import LeastSquares, Pull, Quantity

SMALLEST_SCATTER = 1e-8
"""Of log losses, where they lie on the law to rounding."""
HOLD = 300.0
"""Weight that holds a quantity, in standard deviations of a run over its standard error: it gives way by 1e-5 of it."""
PRECISION = 1e-3
"""Of the ends, in units of the t quantile."""
MAX_STEPS = 40


class Limits(NamedTuple):
    """The ends of a profile interval; nan on a side on which it doesn't close."""

    low: float
    high: float

    @property
    def closed(self) -> bool:
        return bool(np.isfinite(self.low) and np.isfinite(self.high))


class Profile:
    """The profiles of one fit. `starts` are parameters from which a constrained fit may also begin."""

    def __init__(self, losses: LeastSquares, theta: Doubles, starts: Sequence[Doubles], level: float = LEVEL) -> None:
        from scipy.stats import t

        self.losses, self.theta = losses, theta
        self.least = float(losses.cost(theta))
        self.df = len(losses.log_loss) - losses.n_parameters
        self.scatter = max(float(np.sqrt(self.least / self.df)), SMALLEST_SCATTER)
        """Standard deviation of a run about the law, in log loss."""
        self.quantile = float(t.ppf((1 + level) / 2, self.df))
        self._inverse = np.linalg.pinv(losses.jacobian(theta), rcond=1e-6)
        self._starts = [theta, *starts]

    def limits(self, quantity: Quantity, low: float, high: float, *, of_a_run: bool = False) -> Limits:
        """The interval of a quantity, looked for between `low` and `high`; `of_a_run`: it is a log loss, and the
        interval that of one more run there."""
        value = float(quantity(self.theta))
        gradient = self.losses.gradient(quantity, self.theta)
        error = self.scatter * float(np.sqrt(np.square(gradient @ self._inverse).sum() + of_a_run))
        error = float(np.clip(np.nan_to_num(error, nan=np.inf), 1e-12, (high - low) / 20))
        weight = 1.0 if of_a_run else HOLD * self.scatter / error
        return Limits(*(self._end(quantity, value, side * error, end, weight) for side, end in ((-1, low), (1, high))))

    def _end(self, quantity: Quantity, value: float, error: float, limit: float, weight: float) -> float:
        """Where the profile crosses the quantile between the value and a limit; nan if it doesn't."""
        from scipy.optimize import brentq

        if not np.sign(error) * (limit - value) > 0:
            return float("nan")
        known: dict[float, tuple[float, float]] = {}
        last = [self.theta]

        def height(target: float) -> float:
            theta, rise = self._held(Pull(quantity, target, weight), last[0])
            last[0] = theta
            known[target] = (target if weight == 1.0 else float(quantity(theta)), rise)
            return rise - self.quantile

        inner, step = value, error * self.quantile
        for _ in range(MAX_STEPS):
            target = value + step
            beyond = abs(step) >= abs(limit - value)
            target = limit if beyond else target
            rise = height(target)
            if rise >= 0:
                break
            if beyond:
                return float("nan")
            inner = target
            step *= min(2.5, max(1.25, 1.1 * self.quantile / max(rise + self.quantile, 1e-9)))
        else:
            return float("nan")
        if rise > PRECISION * self.quantile:
            at_inner = known[inner][1] - self.quantile if inner in known else -self.quantile
            if at_inner < 0:
                fixed = {inner: at_inner, target: rise}
                tolerance = PRECISION * max(abs(target - value), 1e-12)
                target = float(
                    brentq(lambda d: fixed[d] if d in fixed else height(d), inner, target, xtol=tolerance, maxiter=30)
                )
                if target not in known:
                    height(target)
        return known[target][0]

    def _held(self, pull: Pull, before: Doubles) -> tuple[Doubles, float]:
        """The best fit under a pull, and how far its sum of squares is above the least, in units of t."""
        pool = np.stack([before, *self._starts])
        costs = self.losses.cost(pool) + np.square(pull.weight * (pull.quantity(pool) - pull.target))
        nearest = np.argsort(np.nan_to_num(costs[1:], nan=np.inf))[:1] + 1
        theta = self.losses.solve([before, *pool[nearest]], pull)
        cost = float(self.losses.cost(theta))
        if pull.weight == 1.0:
            cost += float(np.square(pull.quantity(theta) - pull.target))
        return theta, float(np.sqrt(max(cost - self.least, 0.0)) / self.scatter)


def between(at: Doubles, knots: Doubles, values: Doubles) -> Doubles:
    """Positive values at knots, interpolated in the logarithms (pchip); nan beside a knot where the value is nan."""
    from scipy.interpolate import PchipInterpolator

    if len(at) == len(knots) and (at == knots).all():
        return values
    x, known = np.log(np.clip(at, knots[0], knots[-1])), np.isfinite(values)
    if known.sum() < 2:
        return np.full(len(at), np.nan)
    smooth = np.exp(PchipInterpolator(np.log(knots[known]), np.log(values[known]), extrapolate=False)(x))
    return np.where(np.isnan(np.interp(x, np.log(knots), values)), np.nan, smooth)
