"""saekit: sparse autoencoder features in Jupyter.

Text, tokens, activations, features, evidence: data flows one way through the names below. Importing has no effect
beyond the import: no network, no seeds, no threads; plotting and widgets are loaded when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .activations import ActivationBatches as ActivationBatches
from .activations import ActivationCache as ActivationCache
from .activations import activation_batches as activation_batches
from .activations import cache_activations as cache_activations
from .activations import find_token_rule as find_token_rule
from .activations import open_activations as open_activations
from .corpus import Corpus as Corpus
from .corpus import Document as Document
from .corpus import Windows as Windows
from .corpus import iter_windows as iter_windows
from .corpus import load_corpus as load_corpus
from .corpus import tokenize as tokenize
from .errors import SaekitError as SaekitError
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
from .sae import TokenRule as TokenRule
from .sae import list_saes as list_saes
from .sae import load_sae as load_sae
from .training import StepMetrics as StepMetrics
from .training import TrainConfig as TrainConfig
from .training import Trainer as Trainer
from .training import train as train

__version__ = "0.1.0"
