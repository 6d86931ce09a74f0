"""Sparse autoencoders: one file per activation rule, one for files, one for sparse arithmetic."""

from .base import RULES as RULES
from .base import SAE as SAE
from .base import SAEOutput as SAEOutput
from .base import TrainingForward as TrainingForward
from .config import ACTIVATIONS as ACTIVATIONS
from .config import SAEConfig as SAEConfig
from .config import TokenRule as TokenRule
from .files import list_saes as list_saes
from .files import load_sae as load_sae
from .folding import fold_decoder_norms as fold_decoder_norms
from .folding import fold_normalisation as fold_normalisation
from .folding import unfold_normalisation as unfold_normalisation
from .kernels import SparseActs as SparseActs
