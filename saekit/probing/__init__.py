"""Evaluation beyond fidelity: what an SAE's features can be used for, each measure beside its baselines.

Sparse probing, targeted probe perturbation, spurious correlation removal, feature absorption, the sparsity of ablation
effects, and loss as a share of pre-training compute. In each file the mathematics is a function of arrays, and a thin
verb runs the model for it, once however many SAEs are given.
"""

from __future__ import annotations

from .absorption import Absorption as Absorption
from .absorption import feature_absorption as feature_absorption
from .compute import ComputeShare as ComputeShare
from .compute import compute_share as compute_share
from .effects import AblationSparsity as AblationSparsity
from .effects import ablation_sparsity as ablation_sparsity
from .perturbation import ProbePerturbation as ProbePerturbation
from .perturbation import targeted_probe_perturbation as targeted_probe_perturbation
from .sparse import SparseProbing as SparseProbing
from .sparse import sparse_probing as sparse_probing
from .spurious import SpuriousRemoval as SpuriousRemoval
from .spurious import spurious_correlation_removal as spurious_correlation_removal
