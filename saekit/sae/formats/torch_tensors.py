"""SAEs as one torch file of tensors, with no configuration or a small one beside it.

- Goodfire: encoder_linear and decoder_linear with biases, ReLU.
- DeepSeek R1 by qresearch: encoder and decoder with biases, ReLU.
- Qwen Scope: W_enc [d_sae, d_in] and W_dec [d_in, d_sae], TopK; k is in the repository's name alone.
- Kissane et al.'s attention SAEs of GPT-2: W_enc [d_in, d_sae], ReLU, b_dec subtracted, NAME_cfg.json beside NAME.pt.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from ...errors import FileError
from .assembly import Tensors, of_names, saved
from .contents import files_ending, json_at
from .family import Family
from .pickled import SUFFIXES, keys_at, state_at
from .saved import SavedSAE

LINEAR = {"{0}.weight": "W_enc", "{0}.bias": "b_enc", "{1}.weight": "W_dec", "{1}.bias": "b_dec"}
GOODFIRE = {name.format("encoder_linear", "decoder_linear"): mine for name, mine in LINEAR.items()}
QRESEARCH = {name.format("encoder", "decoder"): mine for name, mine in LINEAR.items()}
PLAIN = {name: name for name in ("W_enc", "W_dec", "b_enc", "b_dec")}


class Config(TypedDict, total=False):
    """What is read of NAME_cfg.json."""

    act_name: str | None


def recognises(path: Path) -> bool:
    """Whether a torch file's names are all and only those of one of these."""
    return _file(path) is not None


def read(path: Path, said: Mapping[str, Any]) -> SavedSAE:
    """The SAE; for Qwen Scope `said` has k."""
    file = _file(path)
    assert file is not None
    state = state_at(file)
    names = next(names for names in (GOODFIRE, QRESEARCH, PLAIN) if state.keys() == names.keys())
    weights = of_names(state, names, FAMILY.name, file)
    if names is not PLAIN or weights["W_enc"].shape[0] == len(weights["b_enc"]) != weights["W_enc"].shape[1]:
        weights["W_enc"], weights["W_dec"] = weights["W_enc"].T, weights["W_dec"].T
    if names is not PLAIN:
        return saved(FAMILY.name, file, weights, activation="relu", apply_b_dec_to_input=False)
    cfg = json_at(file.with_name(f"{file.stem}_cfg.json"), Config)
    if {"act_size", "dict_size"} <= cfg.keys():
        hook = cfg.get("act_name")
        return saved(FAMILY.name, file, weights, activation="relu", apply_b_dec_to_input=True, hook_name=hook)
    return _topk(file, weights, said)


def _topk(file: Path, weights: Tensors, said: Mapping[str, Any]) -> SavedSAE:
    if said.get("k") is None:
        raise FileError(
            f"{file} has the tensors of Qwen Scope but not the number of active features",
            got="no k",
            accepted="sk.load_sae(path, k=...)",
            fix="pass k=50 for a repository whose name ends in L0_50; what is not of Qwen Scope goes through "
            "sk.SAE.from_tensors",
        )
    return saved("Qwen Scope", file, weights, activation="topk", k=said["k"], apply_b_dec_to_input=False)


def _file(path: Path) -> Path | None:
    known = [names.keys() for names in (GOODFIRE, QRESEARCH, PLAIN)]
    return next((p for p in files_ending(path, *SUFFIXES) if keys_at(p) in known), None)


FAMILY = Family(
    name="torch files of Goodfire, qresearch, Qwen Scope and Kissane et al.", recognises=recognises, read=read
)
