"""SAEs on disk, in the layout of SAELens 6 and later, both ways; and the SAEs that come with the package.

A folder holds sae_weights.safetensors, cfg.json and, where known, sparsity.safetensors (log10 of firing frequency).
What SAELens has no field for stands under metadata.saekit, with hashes of the other files and a checksum of cfg.json
itself, so that a truncated or altered file is refused. Files written by others carry none of these and load too.

What an architecture is called there, and which of its tensors have other names, its class says. Transcoders and
architectures that SAELens lacks are written alike, under names that it does not use. A crosscoder is an SAE on its
hook points' activations side by side there.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save as to_bytes
from torch import Tensor

from ...atomic_io import with_current_keys
from ...errors import FileError, disk_errors
from ...json_files import FAILURES, damaged, read_json
from ...output_folder import output_folder, parts_of
from ..architectures import ARCHITECTURES, of_saelens, weight_shapes
from ..config import SAEConfig
from .assembly import read_safetensors
from .contents import folder_of, json_at
from .family import Family
from .hashes import check_hash, check_unaltered, checksum
from .replacement import place, replace_together
from .saelens_folding import PER_TOKEN, TRAINING, fold, weight_processing
from .saelens_schema import Cfg, check_fields, density_of
from .saved import SavedSAE

if TYPE_CHECKING:
    from ..base import SAE

WEIGHTS, CONFIG, SPARSITY = "sae_weights.safetensors", "cfg.json", "sparsity.safetensors"
SAELENS_VERSION = "6.0.0"  # below 6, or without a version, SAELens reads cfg.json as its old flat form
MIN_DENSITY = 1e-10


def save_sae(sae: SAE, folder: str | Path) -> Path:
    """Writes `sae` into `folder` and returns it; one that lay there is replaced as a whole, whenever a kill comes.

    FolderInUseError while another process or thread writes there.
    """
    files = {WEIGHTS: to_bytes({name: tensor.cpu().contiguous() for name, tensor in _tensors(sae).items()})}
    if sae.density is not None:
        files[SPARSITY] = to_bytes({"sparsity": sae.density.cpu().float().clamp(min=MIN_DENSITY).log10()})
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    cfg = _to_saelens(sae, hashes)
    cfg["metadata"]["saekit"]["checksum"] = checksum(cfg)
    files[CONFIG] = (json.dumps(cfg, indent=2, ensure_ascii=False) + "\n").encode()
    with output_folder(folder, "an SAE", leftovers=parts_of(*files)) as path, disk_errors(path):
        replace_together(path, files, optional=[SPARSITY])
    return path


def holds_sae(folder: Path) -> bool:
    """Whether an SAE was saved in the folder."""
    return place(folder, CONFIG, CONFIG).is_file()


def recognises(path: Path) -> bool:
    """Whether there is a cfg.json that names an architecture, or one that says nothing, or only its weights."""
    folder = folder_of(path)
    cfg = json_at(place(folder, CONFIG, CONFIG))
    return "architecture" in cfg or (not cfg and any((folder / name).is_file() for name in (CONFIG, WEIGHTS)))


def read(path: Path, said: Mapping[str, Any]) -> SavedSAE:
    """The SAE there. FileError, naming the file, when one is missing, truncated, altered or not readable."""
    folder = folder_of(path)
    cfg = read_json(place(folder, CONFIG, CONFIG))
    try:
        return read_as(cfg, folder, said)
    except FileError:
        if (now := read_json(place(folder, CONFIG, CONFIG))) != cfg:  # another process replaced it meanwhile
            return read_as(now, folder, said)
        raise


def read_as(cfg: Any, folder: Path, said: Mapping[str, Any]) -> SavedSAE:
    """The SAE in a folder whose configuration, in the layout of version 6, is `cfg`."""
    file, weights_file = (place(folder, name, CONFIG) for name in (CONFIG, WEIGHTS))
    config = config_of(cfg, file)
    own = (cfg.get("metadata") or {}).get("saekit") or {}
    if own:
        check_unaltered(cfg, file, SAELENS_VERSION)
    weights = _read_weights(weights_file, own.get("weights_sha256"))
    if not own:
        config = config.replace(input_normalisation=fold(cfg, weights, folder, said))
    _check_tensors(weights, config, weights_file)
    density = _read_density(place(folder, SPARSITY, CONFIG), own, config.d_sae, settled=file.parent == folder)
    return SavedSAE(
        config=config,
        weights={name: _turned(name, weights[called]) for name, called in _file_names(config).items()},
        path=file,
        density=density,
        training=with_current_keys(own.get("training") or {}),
        fingerprint=own.get("fingerprint"),
    )


def saved_config(folder: Path) -> SAEConfig:
    """The configuration in a folder that saekit wrote, as it was saved: half precision is said to be that."""
    file = place(folder, CONFIG, CONFIG)
    cfg = read_json(file, Cfg)
    with damaged(file):
        return SAEConfig.from_dict(cfg["metadata"]["saekit"]["config"])


def _architecture(config: SAEConfig) -> str:
    """What SAELens calls it."""
    return config.architecture.saelens_architecture(config.is_transcoder, config.skip)


def _file_names(config: SAEConfig) -> dict[str, str]:
    """What files call each tensor of an SAE, by its name in saekit."""
    called = config.architecture.saelens_tensors
    return {name: called.get(name, name) for name in weight_shapes(config)}


def _turned(name: str, tensor: Tensor) -> Tensor:
    """A tensor from saekit's shape to the file's, or back: W_skip is [d_out, d_in] in files."""
    return tensor.T if name == "W_skip" else tensor


def _tensors(sae: SAE) -> dict[str, Tensor]:
    """The SAE's weights under the names and in the shapes that files have: views of its own."""
    return {called: _turned(name, getattr(sae, name).detach()) for name, called in _file_names(sae.config).items()}


def _to_saelens(sae: SAE, hashes: Mapping[str, str]) -> dict[str, Any]:
    c = sae.config
    out: dict[str, Any] = {
        "architecture": _architecture(c),
        "d_in": c.d_in,
        "d_sae": c.d_sae,
        "dtype": c.dtype,
        "device": "cpu",
        "apply_b_dec_to_input": c.subtracts_b_dec,
        "normalize_activations": next(theirs for theirs, mine in PER_TOKEN.items() if mine == c.input_normalisation),
        "reshape_activations": "none",
    }
    out |= sae.architecture.to_saelens(c)
    if c.is_transcoder:
        out["d_out"] = c.width_out
    hook_name = ", ".join(c.hook_name) if isinstance(c.hook_name, tuple) else c.hook_name
    special = list(c.token_filter.special_ids) if c.token_filter else []
    out["metadata"] = {
        "sae_lens_version": SAELENS_VERSION,
        "model_name": c.model_name,
        "hook_name": hook_name,
        **({"hook_name_out": c.hook_out} if c.is_transcoder else {}),
        "hook_head_index": None,
        "context_size": c.context_size,
        "prepend_bos": True if c.prepend_bos is None else c.prepend_bos,
        "dataset_path": c.dataset,
        "exclude_special_tokens": special or False if c.exclude_special_tokens is None else c.exclude_special_tokens,
        "saekit": {
            "format": 1,
            "weights_sha256": hashes[WEIGHTS],
            "sparsity_sha256": hashes.get(SPARSITY),
            "fingerprint": sae.fingerprint,
            "config": c.to_dict(),
            "training": sae.training_summary,
        },
    }
    return out


def config_of(cfg: Any, path: Path) -> SAEConfig:
    if not isinstance(cfg, dict) or not {"architecture", "d_in", "d_sae"} <= cfg.keys():
        raise FileError(
            f"{path} does not describe an SAE",
            got=sorted(cfg) if isinstance(cfg, dict) else type(cfg).__name__,
            accepted="SAELens 6 or later: architecture, d_in, d_sae, ...",
            fix="load and save it once with SAELens 6",
        )
    check_fields(cfg, path)
    meta = cfg.get("metadata") or {}
    version = str(cfg.get("sae_lens_version") or meta.get("sae_lens_version") or "")
    if not re.match(r"([6-9]|[1-9][0-9]+)(\.|$)", version):
        raise FileError(
            f"{path} is in SAELens' old layout",
            got=f"sae_lens_version {version or 'missing'}",
            accepted="6.0.0 or later",
            fix="load and save it once with SAELens 6",
        )
    own, known = meta.get("saekit"), of_saelens() | dict.fromkeys(TRAINING, ARCHITECTURES["batchtopk"])
    name = own.get("config", {}).get("activation") if own else None
    if name is not None and name not in ARCHITECTURES:
        raise FileError(
            f"{path} is of an architecture that is not registered here",
            got=name,
            accepted=", ".join(ARCHITECTURES),
            fix="run the code that defines it and calls sk.register_architecture, then load again",
        )
    if not own and cfg["architecture"] not in known:
        raise FileError(
            f"{path}: saekit does not read this architecture",
            got=cfg["architecture"],
            accepted=", ".join(known),
            fix="use an SAE of one of these kinds, or pass its tensors to sk.SAE.from_tensors",
        )
    if (meta.get("hook_head_index") if not own else None) is not None:
        raise FileError(
            f"{path}: this SAE reads one attention head alone, and saekit's hook points have all heads side by side",
            got=f"hook_head_index {meta['hook_head_index']}",
            accepted="an SAE of all heads",
            fix="pass its tensors to sk.SAE.from_tensors, and x[..., head, :] to its encode",
        )
    try:
        if own:
            config = SAEConfig.from_dict(own["config"])
        else:
            architecture = known[cfg["architecture"]]
            config = SAEConfig(
                d_in=cfg["d_in"],
                d_sae=cfg["d_sae"],
                activation=architecture.name,
                target_l0=None,  # not said there
                **architecture.from_saelens(cfg),
                apply_b_dec_to_input=cfg.get("apply_b_dec_to_input", True),
                **_outputs(cfg, meta),
                weight_processing=weight_processing(meta.get("model_from_pretrained_kwargs")),
                dtype=_dtype_name(cfg.get("dtype")),
                hook_name=meta.get("hook_name"),
                model_name=meta.get("model_name"),
                prepend_bos=meta.get("prepend_bos"),
                exclude_special_tokens=_special(meta.get("exclude_special_tokens")),
                context_size=meta.get("context_size"),
                dataset=meta.get("dataset_path"),
            )
    except FAILURES as e:
        raise FileError(
            f"{path} holds a value that is not accepted: {getattr(e, 'what', e)}",
            got=getattr(e, "got", None),
            accepted=getattr(e, "accepted", None),
            fix="restore the file, or save it again",
        ) from e
    if not own and cfg["architecture"] in TRAINING:
        return config
    seen = (cfg["architecture"], cfg["d_in"], cfg["d_sae"], cfg.get("d_out", cfg["d_in"]))
    if seen != (said := (_architecture(config), config.d_in, config.d_sae, config.width_out)):
        raise FileError(
            f"{path} contradicts itself",
            got="{}, d_in {}, d_sae {}, d_out {}".format(*seen),
            accepted="what metadata.saekit says: {}, d_in {}, d_sae {}, d_out {}".format(*said),
            fix="the file was altered: restore it from where it came",
        )
    return config.replace(dtype=_dtype_name(config.dtype))


def _outputs(cfg: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    """The fields of a transcoder's configuration that others have no use for."""
    if not cfg["architecture"].endswith("transcoder"):
        return {}
    skip = cfg["architecture"].endswith("skip_transcoder")
    return {"d_out": cfg["d_out"], "hook_out": meta.get("hook_name_out"), "skip": skip}


def _special(value: Any) -> bool | tuple[int, ...] | None:
    return tuple(value) if isinstance(value, list) else value


def _dtype_name(name: Any) -> str:
    return "float64" if str(name).endswith("float64") else "float32"


def _read_weights(path: Path, expected_hash: str | None) -> dict[str, Tensor]:
    if expected_hash is not None and path.is_file():
        check_hash(
            path,
            expected_hash,
            "it is truncated or altered: copy it again, or train again (sk.train resumes from its checkpoints)",
        )
    return read_safetensors(path)


def _read_density(path: Path, own: Mapping[str, Any], d_sae: int, settled: bool) -> Tensor | None:
    """The firing frequencies in a file; None where there are none of this SAE, with a warning once all is settled."""
    expected = own.get("sparsity_sha256")
    if "sparsity_sha256" in own and (expected is None) == path.is_file():
        if settled:
            what = "is not of this SAE, which was saved without a density" if expected is None else "is missing"
            warnings.warn(f"{path} {what}: its density is not known", stacklevel=5)
        return None
    if not path.is_file():
        return None
    if expected is not None:
        check_hash(path, expected, "it is truncated or altered: copy it again, or delete it and go without density")
    return density_of(read_safetensors(path).get("sparsity"), d_sae, path)


def _check_tensors(weights: dict[str, Tensor], config: SAEConfig, path: Path) -> None:
    expected = weight_shapes(config)
    shapes = {called: expected[name] for name, called in _file_names(config).items()}
    if config.skip:
        shapes["W_skip"] = shapes["W_skip"][::-1]
    missing, unexpected = sorted(shapes.keys() - weights.keys()), sorted(weights.keys() - shapes.keys())
    if missing or unexpected:
        raise FileError(
            f"{path} does not hold the tensors of a {config.activation} SAE",
            got=f"missing: {', '.join(missing) or 'none'}; unexpected: {', '.join(unexpected) or 'none'}",
            accepted=", ".join(shapes),
            fix=f"check that {CONFIG} belongs to this file",
        )
    for name, shape in shapes.items():
        if tuple(weights[name].shape) != shape:
            raise FileError(
                f"{path}: {name} has the wrong shape",
                got=tuple(weights[name].shape),
                accepted=shape,
                fix=f"check that {CONFIG} belongs to this file",
            )


FAMILY = Family(name="SAELens 6 or later", recognises=recognises, read=read, beside=(CONFIG, WEIGHTS, SPARSITY))
