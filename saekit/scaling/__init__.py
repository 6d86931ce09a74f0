"""Scaling laws: a grid of SAEs on one stream, loss by width, sparsity, tokens and compute, and what to train next."""

from .compute import BestChoice as BestChoice
from .compute import ComputeFit as ComputeFit
from .fits import ScalingFit as ScalingFit
from .study import ScalingStudy as ScalingStudy
from .study import scaling_study as scaling_study
