"""Plotly figures from result objects: plain `go.Figure`s, small, and readable on a light and on a dark page.

`style` holds the template and the colours, `features` draws what is known of features, `runs` what training, evaluation
and steering measured, `known_features` what was recovered of a synthetic truth, `probing` what features are good for,
`images` pictures, `scaling` laws of a grid of runs. A figure only draws numbers that its result object already holds.
"""

from __future__ import annotations

from .features import activation_histogram as activation_histogram
from .features import density_histogram as density_histogram
from .features import specificity as specificity
from .images import image_grid as image_grid
from .known_features import recovery as recovery
from .probing import ablation_sparsity as ablation_sparsity
from .probing import absorption as absorption
from .probing import compute_share as compute_share
from .probing import probe_perturbation as probe_perturbation
from .probing import sparse_probing as sparse_probing
from .probing import spurious_removal as spurious_removal
from .runs import evaluation as evaluation
from .runs import pareto as pareto
from .runs import training_curves as training_curves
from .scaling import compute_fit as compute_fit
from .scaling import scaling_fit as scaling_fit
from .scaling import scaling_study as scaling_study
from .steering import dose_response as dose_response
from .steering import steering_pareto as steering_pareto
