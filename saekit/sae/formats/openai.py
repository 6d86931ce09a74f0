"""OpenAI's release: SAEs of GPT-2 small in torch files, ReLU or TopK.

    z = (x - mean) / (std + 1e-5)                                       with TopK only
    f = activation((z - pre_bias) @ encoder.weight.T + latent_bias)
    x_hat = (f @ decoder.weight.T + pre_bias) * std + mean

Source: Gao et al. 2024, arXiv:2406.04093; github.com/openai/sparse_autoencoder, model.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import FileError
from .assembly import of_names, saved
from .contents import files_ending
from .family import Family
from .pickled import SUFFIXES, keys_at, state_at
from .saved import SavedSAE

NAMES = {"encoder.weight": "W_enc", "decoder.weight": "W_dec", "latent_bias": "b_enc", "pre_bias": "b_dec"}


def recognises(path: Path) -> bool:
    """Whether a torch file has a pre_bias and a latent_bias."""
    return any(keys_at(p) >= {"pre_bias", "latent_bias"} for p in files_ending(path, *SUFFIXES))


def read(path: Path, said: Mapping[str, Any]) -> SavedSAE:
    """The SAE; FileError for an activation other than ReLU and TopK with ReLU."""
    file = next(p for p in files_ending(path, *SUFFIXES) if keys_at(p) >= {"pre_bias", "latent_bias"})
    state = state_at(file)
    activation, details = state.get("activation", "ReLU"), state.get("activation_state_dict") or {}
    after = details.get("postact_fn", "ReLU")
    if activation not in ("ReLU", "TopK") or after != "ReLU":
        raise FileError(
            f"{file} is of {FAMILY.name} with an activation that saekit does not have",
            got=activation if activation != "TopK" else f"TopK, then {after}",
            accepted="ReLU, or TopK, then ReLU",
        )
    tied = {name: mine for name, mine in NAMES.items() if name in state or name != "decoder.weight"}
    weights = of_names(state, tied, FAMILY.name, file)
    weights["W_dec"] = weights["W_dec"].T if "W_dec" in weights else weights["W_enc"]
    weights["W_enc"] = weights["W_enc"].T
    fields: dict[str, Any] = {"activation": "relu"}
    if activation == "TopK":
        fields = {"activation": "topk", "k": int(details["k"]), "input_normalisation": "layer_norm"}
    return saved(FAMILY.name, file, weights, apply_b_dec_to_input=True, **fields)


FAMILY = Family(name="OpenAI's release", recognises=recognises, read=read)
