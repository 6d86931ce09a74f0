"""Whether an SAE belongs to a model: its name, its weights and how they were prepared, the hook point, the widths.

Activations of other weights, or of weights that were folded, differ without any error, so this is asked before an SAE
is used. What an SAE does not record (files from elsewhere) is not checked; the widths always are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import MismatchError
from ..hook_points import HookPoint, hook_names, hook_text

if TYPE_CHECKING:
    from .config import SAEConfig

SAME_MODEL = {"gpt2-small": "gpt2", "mistral-7b": "mistral-7b-v0.1", "tiny-stories-33m": "tinystories-33m"}
"""Two names of one model."""
SHOWN = frozenset({"fold_ln", "center_writing_weights", "fold_value_biases"})
"""What TransformerLens can do to weights that changes activations somewhere."""
IN_RESIDUAL = frozenset({"center_writing_weights"})
"""What of it shows in the residual stream and in what is added to it."""
RESIDUAL = ("hook_resid", "hook_attn_out", "hook_mlp_out", "hook_embed", "hook_pos_embed")


def check_model(config: SAEConfig, model: Any, hook_name: HookPoint | None = None) -> None:
    """Raises MismatchError unless an SAE of this configuration belongs to `model` and `hook_name`; see `SAE.check`."""
    prints = (model.fingerprint, getattr(model, "weights_fingerprint", None))  # a steered model's differ
    same_weights = config.model_fingerprint is not None and config.model_fingerprint in prints
    if config.model_name and not same_weights and _base_name(config.model_name) != _base_name(model.name):
        raise MismatchError(
            "this SAE was trained on another model",
            got=model.name,
            accepted=config.model_name,
            fix=f"load that model, or an SAE for {model.name}; if it is that model under another name, say so: "
            f"sae.config = sae.config.replace({_as_is(config, model.name)})",
        )
    _check_processing(config, model, hook_name)
    if hook_name is not None and config.hook_name is not None and hook_name != config.hook_name:
        raise MismatchError(
            "this SAE belongs to another hook point",
            got=hook_text(hook_name),
            accepted=hook_text(config.hook_name),
            fix=f"pass hook_name={config.hook_name!r}, or load the SAE of that hook point",
        )
    ends = ((hook_name or config.hook_name, config.d_in, "reads"), (config.hook_out, config.width_out, "writes"))
    for where, width_of_sae, does in ends:
        if isinstance(where, tuple):
            model.check_distinct(where)
        if where is not None and (width := model.hook_width(where)) != width_of_sae:
            raise MismatchError(
                f"activations at {hook_text(where)} are of another width than this SAE {does}",
                got=width,
                accepted=width_of_sae,
                fix="use the SAE at the hook point and on the model it was trained for",
            )
    rounded = str(getattr(model, "dtype", None)) == "torch.float16"  # its digits are others: the name has to do
    if config.model_fingerprint is not None and not same_weights and not rounded:
        raise MismatchError(
            f"{model.name} has other weights than the model of that name this SAE was trained on",
            got=model.fingerprint,
            accepted=config.model_fingerprint,
            fix="load the weights it was trained on; to use it on these all the same (fine-tuned, quantised), "
            "say so: sae.config = sae.config.replace(model_fingerprint=None)",
        )


def _as_is(config: SAEConfig, name: str) -> str:
    """The fields that make an SAE one of a model of that name."""
    return f"model_name={name!r}" + (", model_fingerprint=None" if config.model_fingerprint else "")


def _check_processing(config: SAEConfig, model: Any, hook_name: HookPoint | None) -> None:
    """MismatchError where the weights were prepared in a way that shows at the SAE's hook points."""
    if config.weight_processing is None:
        return
    said, seen = _steps(config.weight_processing), _steps(model.weight_processing)
    where = [*hook_names(hook_name or config.hook_name or ""), *([config.hook_out] if config.hook_out else [])]
    if all(any(part in name for part in RESIDUAL) for name in where):
        said, seen = said & IN_RESIDUAL, seen & IN_RESIDUAL
    if said == seen:
        return
    how = {"none": "False", "compatibility": "True"}.get(config.weight_processing, repr(config.weight_processing))
    raise MismatchError(
        "this SAE was trained on weights prepared in another way, and activations differ silently",
        got=model.weight_processing,
        accepted=config.weight_processing,
        fix=f"load the model so: sk.load_model({config.model_name or model.name!r}, compatibility_mode={how})",
    )


def _steps(processing: str) -> frozenset[str]:
    """What of a preparation shows in activations: centring the unembedding does not."""
    if processing == "compatibility":
        return SHOWN
    return frozenset(name.strip() for name in processing.split(",")) & SHOWN


def _base_name(name: str) -> str:
    short = name.rstrip("/").rsplit("/", 1)[-1].lower()
    return SAME_MODEL.get(short, short)


def common_prepend_bos(configs: Iterable[SAEConfig]) -> bool | None:
    """Whether text for SAEs of these configurations begins with BOS, or None; MismatchError if they differ.

    >>> from saekit.sae import common_prepend_bos
    >>> common_prepend_bos([sae.config, sae.config]) is None
    True
    """
    each = [config.prepend_bos for config in configs]
    said = set(each) - {None}
    if len(said) > 1:
        raise MismatchError(
            "some of the SAEs read text that begins with BOS, and some do not",
            got=", ".join(map(str, each)),
            accepted="SAEs whose prepend_bos is the same or None",
            fix="use them one at a time",
        )
    return next(iter(said), None)
