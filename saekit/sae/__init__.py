"""Sparse autoencoders: one file per activation rule, one for files, one for sparse arithmetic."""

from .base import RULES as RULES
from .base import SAE as SAE
from .base import SAEOutput as SAEOutput
from .config import ACTIVATIONS as ACTIVATIONS
from .config import SAEConfig as SAEConfig
from .files import list_saes as list_saes
from .files import load_sae as load_sae
from .files import saved_config as saved_config
from .folding import Normalisation as Normalisation
from .folding import fold_decoder_norms as fold_decoder_norms
from .folding import fold_normalisation as fold_normalisation
from .kernels import SparseActs as SparseActs
from .rule import TrainingForward as TrainingForward
from .token_rule import TokenRule as TokenRule
