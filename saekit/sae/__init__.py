"""Sparse autoencoders: configuration, architectures, files and sparse arithmetic."""

from .architectures import ARCHITECTURES as ARCHITECTURES
from .architectures import Architecture as Architecture
from .architectures import TrainingForward as TrainingForward
from .architectures import get_architecture as get_architecture
from .architectures import register_architecture as register_architecture
from .base import SAE as SAE
from .config import SAEConfig as SAEConfig
from .folding import Normalisation as Normalisation
from .folding import fold_decoder_norms as fold_decoder_norms
from .folding import fold_normalisation as fold_normalisation
from .formats import holds_sae as holds_sae
from .formats import list_saes as list_saes
from .formats import load_sae as load_sae
from .formats import load_transcoders as load_transcoders
from .formats import saved_config as saved_config
from .output import SAEOutput as SAEOutput
from .provenance import common_prepend_bos as common_prepend_bos
from .sparse.kernels import SparseActs as SparseActs
from .token_filter import TokenFilter as TokenFilter
