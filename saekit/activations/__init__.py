"""Activations at a hook point: shuffled batches from a model and a corpus, or from disk."""

from .batches import ActivationBatches, activation_batches
from .cache import ActivationCache
from .harvest import cache_activations, open_activations
from .token_filter import (
    common_token_filter,
    default_token_filter,
    fit_token_filter,
    kept_activations,
    resolve_token_filter,
)

__all__ = [
    "ActivationBatches",
    "ActivationCache",
    "activation_batches",
    "cache_activations",
    "common_token_filter",
    "default_token_filter",
    "fit_token_filter",
    "kept_activations",
    "open_activations",
    "resolve_token_filter",
]
