"""Activations at a hook point, and which tokens count: shuffled batches from a model and a text, or from disk."""

from .batches import ActivationBatches as ActivationBatches
from .batches import activation_batches as activation_batches
from .cache import ActivationCache as ActivationCache
from .description import describe_token_filter as describe_token_filter
from .excluded import ExcludedTokens as ExcludedTokens
from .forward import kept_activations as kept_activations
from .harvest import cache_activations as cache_activations
from .harvest import open_activations as open_activations
from .source import ActivationSource as ActivationSource
from .source import ModelActivations as ModelActivations
from .source import Provenance as Provenance
from .stream import StreamActivations as StreamActivations
from .token_filter import common_token_filter as common_token_filter
from .token_filter import default_token_filter as default_token_filter
from .token_filter import fit_token_filter as fit_token_filter
from .token_filter import resolve_token_filter as resolve_token_filter
