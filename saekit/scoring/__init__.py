"""Specificity: does a feature fire for a concept, and for nothing else?

`ranking` has the exact statistics of sparse scores, `resampling` their intervals over documents, `units` turns an index
into scored tokens or documents, `evidence` picks the examples behind the numbers, `report` is what comes back and
`measures` puts them together.
"""

from __future__ import annotations

from .measures import rank_features, specificity
from .report import Estimate, SpecificityResult

__all__ = ["Estimate", "SpecificityResult", "rank_features", "specificity"]
