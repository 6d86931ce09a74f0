"""dictionary_learning (Marks, Karvonen and others): a folder for each trainer with config.json and ae.pt.

The class that the configuration names says what the tensors mean:

    AutoEncoder              relu, b_dec subtracted; decoder rows brought to unit norm, as its own loader does
    AutoEncoderNew           relu, b_dec not subtracted
    AutoEncoderTopK          topk
    BatchTopKSAE             a threshold for all features
    MatryoshkaBatchTopKSAE   the same, in groups
    JumpReluAutoEncoder      a threshold for each feature, b_dec not subtracted
    GatedAutoEncoder         gated

Source: github.com/saprmarks/dictionary_learning, dictionary.py and trainers/.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from torch import Tensor
from typing_extensions import TypedDict

from ...errors import FileError
from ...json_files import Count
from .assembly import Tensors, fold_norms, of_names, per_feature, saved
from .contents import folder_of, json_at
from .family import Family
from .layers import hooks_of_module
from .pickled import state_at
from .saved import SavedSAE

CONFIG, WEIGHTS = "config.json", "ae.pt"
LINEAR = {"encoder.weight": "W_enc", "encoder.bias": "b_enc", "decoder.weight": "W_dec"}
PLAIN = {name: name for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
GATED = {
    "encoder.weight": "W_enc",
    "decoder.weight": "W_dec",
    "decoder_bias": "b_dec",
    "gate_bias": "b_enc",
    "mag_bias": "b_mag",
    "r_mag": "r_mag",
}
CLASSES: dict[str, tuple[dict[str, str], str, bool]] = {
    "AutoEncoder": (LINEAR | {"bias": "b_dec"}, "relu", True),
    "AutoEncoderNew": (LINEAR | {"decoder.bias": "b_dec"}, "relu", False),
    "AutoEncoderTopK": (LINEAR | {"b_dec": "b_dec"}, "topk", True),
    "BatchTopKSAE": (LINEAR | {"b_dec": "b_dec"}, "batchtopk", True),
    "MatryoshkaBatchTopKSAE": (PLAIN, "batchtopk", True),
    "JumpReluAutoEncoder": (PLAIN, "jumprelu", False),
    "GatedAutoEncoder": (GATED, "gated", True),
}
"""Tensors by their name in the file, the architecture, and whether b_dec is subtracted from the input."""
SUBMODULES = {"resid_post": "hook_resid_post", "mlp_out": "hook_mlp_out", "attention_out": "hook_attn_out"}


class Trainer(TypedDict, total=False):
    """What is read of config.json's trainer."""

    dict_class: str
    layer: int | None
    submodule_name: str | None
    lm_name: str | None
    k: int | None


class Buffer(TypedDict, total=False):
    """What is read of its buffer."""

    ctx_len: Count | None


class Config(TypedDict, total=False):
    """config.json."""

    trainer: Trainer
    buffer: Buffer | None


def recognises(path: Path) -> bool:
    """Whether config.json names a trainer and a class of dictionary."""
    return "dict_class" in _trainer(path)


def read(path: Path, said: Mapping[str, Any]) -> SavedSAE:
    """The SAE; FileError for another class than those above. Nothing in the file is run."""
    file = folder_of(path) / WEIGHTS if path.is_dir() or path.suffix == ".json" else path
    if not file.is_file():
        raise FileError(f"no file {file}", got="missing", accepted=f"{WEIGHTS} beside {CONFIG}", fix="copy the folder")
    config = json_at(folder_of(path) / CONFIG, Config)
    trainer = config["trainer"]
    kind = trainer["dict_class"]
    if kind not in CLASSES:
        raise FileError(
            f"{file} is of {FAMILY.name} and of a class that saekit does not read",
            got=kind,
            accepted=", ".join(CLASSES),
            fix="pass its tensors to sk.SAE.from_tensors, if its features are chosen in one of saekit's ways",
        )
    names, activation, subtracts = CLASSES[kind]
    state = state_at(file)
    weights = of_names(state, names, FAMILY.name, file)
    if names is not PLAIN:
        weights["W_enc"], weights["W_dec"] = weights["W_enc"].T, weights["W_dec"].T
    fields = _fields(activation, state, trainer, weights, file)
    if kind == "AutoEncoder":
        fold_norms(weights)
    layer, where = trainer.get("layer"), str(trainer.get("submodule_name") or "")
    hook = next((f"blocks.{layer}.{hook}" for name, hook in SUBMODULES.items() if name in where), None)
    return saved(
        FAMILY.name,
        file,
        weights,
        activation=activation,
        apply_b_dec_to_input=subtracts,
        hook_name=hook or hooks_of_module(where)[1],
        model_name=trainer.get("lm_name"),
        context_size=(config.get("buffer") or {}).get("ctx_len"),
        **fields,
    )


def _fields(activation: str, state: Mapping[str, Any], trainer: Mapping[str, Any], weights: Tensors, file: Path) -> Any:
    """The options of an architecture; thresholds go to the weights."""
    if activation in ("batchtopk", "jumprelu"):
        weights["threshold"] = of_names(state, {"threshold": "threshold"}, FAMILY.name, file)["threshold"]
        weights["threshold"] = per_feature(weights["threshold"], len(weights["b_enc"]))
    if activation not in ("topk", "batchtopk"):
        return {}
    k = trainer.get("k", state.get("k"))
    sizes = state.get("group_sizes")
    prefixes = tuple(accumulate(int(n) for n in sizes)) if isinstance(sizes, Tensor) else ()
    return {"k": int(k) if k is not None else None, "matryoshka": prefixes}


def _trainer(path: Path) -> dict[str, Any]:
    trainer = json_at(folder_of(path) / CONFIG).get("trainer")
    return trainer if isinstance(trainer, dict) else {}


FAMILY = Family(name="dictionary_learning", recognises=recognises, read=read, beside=(CONFIG, WEIGHTS))
