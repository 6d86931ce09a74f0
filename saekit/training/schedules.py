"""How the learning rate and the sparsity penalty move over a run. Plain functions of the step."""

from __future__ import annotations


def learning_rate(step: int, *, peak: float, n_steps: int, warmup_steps: int, decay_fraction: float) -> float:
    """The rate at a step, counted from 0: linear rise, flat, linear fall that would reach 0 just after the last step.

    >>> [round(learning_rate(s, peak=1.0, n_steps=10, warmup_steps=2, decay_fraction=0.4), 2) for s in range(10)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    rise = (step + 1) / warmup_steps if step < warmup_steps else 1.0
    decay_steps = decay_fraction * n_steps
    fall = (n_steps - step) / decay_steps if decay_steps > 0 else 1.0
    return peak * min(rise, max(0.0, min(1.0, fall)))


def ramp(step: int, *, n_steps: int, fraction: float) -> float:
    """From 0 to 1 over the first `fraction` of the run, then 1.

    >>> [ramp(s, n_steps=10, fraction=0.4) for s in range(6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    steps = fraction * n_steps
    return min(1.0, step / steps) if steps > 0 else 1.0
