"""A warning before evaluations that an audit advises against."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

AUDIT = "arXiv:2605.18229"
PACKAGE = str(Path(__file__).parents[2])


class AuditWarning(UserWarning):
    """An evaluation that a published audit advises against at its usual settings."""


def warn_of_audit(what: str) -> None:
    """One warning for a call of a function that evaluates `what`, at the line outside of saekit that called it."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(
        f"a 2026 audit of SAEBench ({AUDIT}) advises against {what} at its usual settings; read its scores with the "
        "reseed noise and the smallest difference that stand beside them, and do not rank SAEs by less",
        AuditWarning,
        stacklevel=level,
    )
