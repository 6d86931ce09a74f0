"""saekit: sparse autoencoder features in Jupyter.

Text, tokens, activations, features, evidence: data flows one way through the names below. Importing has no effect
beyond the import: no network, no seeds, no threads; widgets are loaded when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import synthetic as synthetic
from .activations import ActivationBatches as ActivationBatches
from .activations import ActivationCache as ActivationCache
from .activations import activation_batches as activation_batches
from .activations import cache_activations as cache_activations
from .activations import fit_token_filter as fit_token_filter
from .activations import open_activations as open_activations
from .corpus import Corpus as Corpus
from .corpus import Document as Document
from .corpus import Windows as Windows
from .corpus import iter_windows as iter_windows
from .corpus import load_corpus as load_corpus
from .corpus import tokenize as tokenize
from .errors import SaekitError as SaekitError
from .evaluation import Evaluation as Evaluation
from .evaluation import evaluate as evaluate
from .evaluation.comparison import Comparison as Comparison
from .evaluation.comparison import compare as compare
from .evaluation.saebench import AblationSparsity as AblationSparsity
from .evaluation.saebench import Absorption as Absorption
from .evaluation.saebench import ComputeFraction as ComputeFraction
from .evaluation.saebench import ProbePerturbation as ProbePerturbation
from .evaluation.saebench import SparseProbing as SparseProbing
from .evaluation.saebench import SpuriousRemoval as SpuriousRemoval
from .evaluation.saebench import ablation_sparsity as ablation_sparsity
from .evaluation.saebench import compute_fraction as compute_fraction
from .evaluation.saebench import feature_absorption as feature_absorption
from .evaluation.saebench import sparse_probing as sparse_probing
from .evaluation.saebench import spurious_correlation_removal as spurious_correlation_removal
from .evaluation.saebench import targeted_probe_perturbation as targeted_probe_perturbation
from .index import FeatureIndex as FeatureIndex
from .index import FeatureRecord as FeatureRecord
from .index import build_index as build_index
from .index import load_index as load_index
from .models import LanguageModel as LanguageModel
from .models import load_model as load_model
from .sae import SAE as SAE
from .sae import SAEConfig as SAEConfig
from .sae import SAEOutput as SAEOutput
from .sae import SparseActs as SparseActs
from .sae import TokenFilter as TokenFilter
from .sae import list_saes as list_saes
from .sae import load_sae as load_sae
from .sae import register_architecture as register_architecture
from .scaling import ComputeFit as ComputeFit
from .scaling import ScalingFit as ScalingFit
from .scaling import ScalingStudy as ScalingStudy
from .scaling import scaling_study as scaling_study
from .specificity import Concept as Concept
from .specificity import SpecificityResult as SpecificityResult
from .specificity import rank_features as rank_features
from .specificity import specificity as specificity
from .steering import Direction as Direction
from .steering import Edit as Edit
from .steering import Generation as Generation
from .steering import Schedule as Schedule
from .steering import SteeredModel as SteeredModel
from .steering import SteeringStudy as SteeringStudy
from .steering import Where as Where
from .steering import ablate as ablate
from .steering import add as add
from .steering import add_direction as add_direction
from .steering import cap as cap
from .steering import clamp as clamp
from .steering import dose_response as dose_response
from .steering import generate as generate
from .steering import load_steered as load_steered
from .steering import mean_difference as mean_difference
from .steering import output_scores as output_scores
from .steering import project_out as project_out
from .steering import scale as scale
from .steering import steered as steered
from .steering import steering_features as steering_features
from .steering import stream as stream
from .synthetic import Recovery as Recovery
from .synthetic import recovery as recovery
from .training import StepMetrics as StepMetrics
from .training import TensorBoardLogger as TensorBoardLogger
from .training import TrainConfig as TrainConfig
from .training import TrainedSAEs as TrainedSAEs
from .training import Trainer as Trainer
from .training import WandbLogger as WandbLogger
from .training import train as train

if TYPE_CHECKING:
    from .widgets import FeatureBrowser as FeatureBrowser
    from .widgets import FeatureCard as FeatureCard
    from .widgets import SteeringPanel as SteeringPanel
    from .widgets import TokenHighlight as TokenHighlight
    from .widgets import TrainingMonitor as TrainingMonitor
    from .widgets import card as card
    from .widgets import explore as explore
    from .widgets import highlight as highlight
    from .widgets import save_page as save_page
    from .widgets import steer as steer

__version__ = "0.1.0"

_WIDGETS = {"FeatureBrowser", "FeatureCard", "SteeringPanel", "TokenHighlight", "card", "explore", "highlight"}
_WIDGETS |= {"TrainingMonitor", "save_page", "steer"}


def __getattr__(name: str) -> Any:
    if name in _WIDGETS:
        return getattr(import_module(".widgets", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    names = {n for n in globals() if not n.startswith("_")} - {"TYPE_CHECKING", "Any", "import_module"}
    return sorted(names | _WIDGETS)
