"""Plotly figures from result objects: plain `go.Figure`s, small, and readable on a light and on a dark page.

`style` holds the template and the colours, `features` draws what is known of features, `runs` what training, evaluation
and steering measured, `known_features` what was recovered of a synthetic truth. A figure only draws numbers that its
result object already holds.
"""

from __future__ import annotations

from .features import activation_histogram as activation_histogram
from .features import density_histogram as density_histogram
from .features import specificity as specificity
from .known_features import recovery as recovery
from .runs import dose_response as dose_response
from .runs import evaluation as evaluation
from .runs import training_curves as training_curves
