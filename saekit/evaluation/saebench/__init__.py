"""Evaluation beyond fidelity: what an SAE's features can be used for, each measure beside its baselines.

Sparse probing, targeted probe perturbation, spurious correlation removal, feature absorption, the sparsity of ablation
effects, and loss as a fraction of pre-training compute. In each file the mathematics is a function of arrays, and a
thin function runs the model for it, once however many SAEs are given.
"""

from __future__ import annotations

from .ablation_sparsity import AblationSparsity as AblationSparsity
from .ablation_sparsity import ablation_sparsity as ablation_sparsity
from .absorption import Absorption as Absorption
from .absorption import feature_absorption as feature_absorption
from .audit import AuditWarning as AuditWarning
from .compute_fraction import ComputeFraction as ComputeFraction
from .compute_fraction import compute_fraction as compute_fraction
from .perturbation import ProbePerturbation as ProbePerturbation
from .perturbation import targeted_probe_perturbation as targeted_probe_perturbation
from .resolution import ScoreComparison as ScoreComparison
from .resolution import compare_scores as compare_scores
from .sparse_probing import SparseProbing as SparseProbing
from .sparse_probing import sparse_probing as sparse_probing
from .spurious_correlation import SpuriousRemoval as SpuriousRemoval
from .spurious_correlation import spurious_correlation_removal as spurious_correlation_removal
