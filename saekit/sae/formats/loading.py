"""Loading an SAE: find the folder, ask the family of its files to read it, and make an SAE of what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ...arguments import checks_arguments
from ...errors import FileError, unknown_name
from ..architectures import weight_shapes
from ..base import SAE
from ..config import SAEConfig
from . import registry
from .locations import locate
from .saved import SavedSAE


@checks_arguments
def load_sae(path_or_name: str | Path, **said: Any) -> SAE:
    """The SAE in a folder or file, on the Hugging Face Hub, or of a name. Weights come as float32 or float64.

    | name | what it stands for |
    |---|---|
    | `"runs/my-sae"` | a folder, or a file of weights |
    | `"smollm2-135m-instruct/4k"` | an SAE that comes with saekit (see `list_saes`) |
    | `"gpt2-small-res-jb/blocks.8.hook_resid_pre"` | a release and id of SAELens 6.54, whose 170 releases are known |
    | `"hf://owner/repository/path@revision"` | a folder or file on the Hub; without @revision, main |

    From the Hub only the files of that SAE are fetched, into its own cache (HF_HOME), from where they load without a
    connection. What a published SAE's files leave out, such as a Gemma Scope SAE's hook point, is filled in.

    Every family of files in `formats/registry.py` is recognised by its content. `said` is what the files leave out:
    fields of SAEConfig such as hook_name, hook_out, k or model_name, and activation_scale, what activations were
    multiplied by in training.

    Raises UnknownNameError for a name that does not exist, and FileError, naming the file, for one that is missing,
    truncated, altered, or of an architecture saekit does not read, and for a place on the Hub that does not exist or
    cannot be reached.

    >>> sk.load_sae(sae.save(tmp_path / "sae")).config.k == sae.config.k
    True
    """
    location = locate(path_or_name)
    if location.path.is_dir() and registry.family_of(location.path) is None:
        _check_alone(location.path)
    saved = registry.read(location.path, {**location.facts, **said})
    config = _with(_filled(saved.config, location.facts), said)
    _check_weights(saved, config)
    sae = SAE(config)
    for name, tensor in saved.weights.items():
        getattr(sae, name).detach().copy_(tensor)
    if saved.fingerprint not in (None, sae.fingerprint):
        raise FileError(
            f"{saved.path} does not describe the weights beside it",
            got=sae.fingerprint,
            accepted=saved.fingerprint,
            fix="one of the two files was altered: restore both from where they came, or train the SAE again",
        )
    sae.requires_grad_(False)  # as `train` hands it out
    sae.training_summary, sae.density = saved.training, saved.density
    return sae


def _check_weights(saved: SavedSAE, config: SAEConfig) -> None:
    """FileError for tensors that do not fit the configuration, or are not finite, before anything of its size is made.

    A threshold may be infinite: that feature never fires.
    """
    for name, shape in weight_shapes(config).items():
        tensor = saved.weights.get(name)
        if tensor is None or tuple(tensor.shape) != shape:
            raise FileError(
                f"{saved.path}: {name} does not fit the configuration",
                got="missing" if tensor is None else tuple(tensor.shape),
                accepted=shape,
                fix="check d_in, d_sae and d_out, in the file or as they were passed to sk.load_sae",
            )
        wrong = tensor.isnan() if name == "threshold" else ~tensor.isfinite()
        if not tensor.is_floating_point() or bool(wrong.any()):
            raise FileError(
                f"{saved.path}: {name} holds what is no weight",
                got=f"{int(wrong.sum())} of {tensor.numel()} numbers are not finite" if wrong.any() else tensor.dtype,
                accepted="finite floating-point numbers",
                fix="the file was damaged, or training diverged: fetch or copy it again, or train again",
            )


def _check_alone(folder: Path) -> None:
    """FileError for a folder whose folders hold SAEs, rather than that it holds none."""
    inside = sorted(
        p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != "." and registry.family_of(p) is not None
    )
    if inside:
        raise FileError(
            f"{folder} holds several SAEs, a folder each",
            got=", ".join(inside[:20]) + (f", ... ({len(inside)} in all)" if len(inside) > 20 else ""),
            accepted="the folder of one",
            fix=f'load one of them, for example sk.load_sae("{folder / inside[0]}")',
        )


NOT_FIELDS = ("activation_scale", "normalize_activations")
"""What can be said to `load_sae` that no configuration has: it is folded into the weights."""


def _with(config: SAEConfig, said: Mapping[str, Any]) -> SAEConfig:
    """The configuration with what the caller knows; UnknownNameError for what is no field of it."""
    known = [f.name for f in fields(config)]
    for name in said:
        if name not in known and name not in NOT_FIELDS:
            raise unknown_name("keyword of load_sae", name, [*known, *NOT_FIELDS])
    return config.replace(**{name: value for name, value in said.items() if name in known})


def _filled(config: SAEConfig, facts: Mapping[str, Any]) -> SAEConfig:
    """The configuration with what is known of a published SAE where its files say nothing."""
    missing = {f.name for f in fields(config) if getattr(config, f.name) is None}
    return config.replace(**{name: value for name, value in facts.items() if name in missing})
