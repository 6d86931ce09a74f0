"""How TransformerLens prepares a model's weights: not at all, as HookedTransformer did, or some of its steps.

Activations differ between the two without any error, so the preparation has a name that SAEs keep and compare.
"""

from __future__ import annotations

from typing import Any

from ..errors import MismatchError, unknown_name

STEPS = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases")
"""What compatibility mode does, by the names of its options."""
_NAME = "_saekit_weight_processing"


def process_weights(bridge: Any, steps: bool | str) -> None:
    """Puts a TransformerBridge into compatibility mode: with all steps (True), or those that a text names.

    UnknownNameError for a step that does not exist, MismatchError for a model that TransformerLens cannot prepare so.
    """
    if steps is True or steps == "compatibility":
        _enable(bridge)
        return
    named = [name.strip() for name in str(steps).split(",") if name.strip()] if steps else []
    for name in named:
        if name not in STEPS:
            raise unknown_name("weight processing", name, ("compatibility", *STEPS))
    _enable(bridge, **{name: name in named for name in STEPS})
    setattr(bridge, _NAME, ", ".join(name for name in STEPS if name in named))


def _enable(bridge: Any, **steps: bool) -> None:
    try:
        bridge.enable_compatibility_mode(**steps)
    except (RuntimeError, ValueError, KeyError, AttributeError, TypeError) as e:  # whatever its arithmetic runs into
        raise MismatchError(
            "TransformerLens cannot prepare the weights of this model so",
            got=f"{type(bridge.original_model).__name__}: {e}",
            accepted="a model whose weights it can fold",
            fix="load it without compatibility_mode, or with single steps: " + ", ".join(STEPS),
        ) from e


def weight_processing_of(bridge: Any) -> str:
    """ "none" for weights as published, "compatibility" once all steps were taken, or the steps that were.

    >>> from saekit.models.weight_processing import weight_processing_of
    >>> weight_processing_of(model.bridge)
    'none'
    """
    if not getattr(bridge, "compatibility_mode", False):
        return "none"
    return str(getattr(bridge, _NAME, "compatibility")) or "none"
