"""A warning before evaluations that an audit advises against."""

from __future__ import annotations

import warnings

AUDIT = "arXiv:2605.18229"


class AuditWarning(UserWarning):
    """An evaluation that a published audit advises against at its usual settings."""


def warn_of_audit(what: str) -> None:
    """One warning for a call of a function that evaluates `what`."""
    warnings.warn(
        f"a 2026 audit of SAEBench ({AUDIT}) advises against {what} at its usual settings; read its scores with the "
        "reseed noise and the smallest difference that stand beside them, and do not rank SAEs by less",
        AuditWarning,
        stacklevel=4,
    )
