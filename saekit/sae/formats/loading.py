"""Loading an SAE: find the folder, ask the family of its files to read it, and make an SAE of what it says."""

from __future__ import annotations

from pathlib import Path

from ...errors import FileError
from ..base import SAE
from . import registry
from .packaged import packaged_folder
from .saelens import CONFIG


def load_sae(path_or_name: str | Path) -> SAE:
    """The SAE in a folder, or the packaged one of that name (see `list_saes`). Weights come as float32 or float64.

    Raises UnknownNameError for a name that does not exist, and FileError, naming the file, for one that is missing,
    truncated, altered, or of an architecture saekit does not read.

    >>> sk.load_sae(sae.save(tmp_path / "sae")).config.k == sae.config.k
    True
    """
    folder = Path(path_or_name).expanduser()
    if not folder.exists():
        folder = packaged_folder(path_or_name)
    if (
        folder.is_dir()
        and not (folder / CONFIG).exists()
        and (inside := sorted(p.parent.name for p in folder.glob(f"*/{CONFIG}")))
    ):
        raise FileError(
            f"{folder} holds several SAEs, a folder each",
            got=", ".join(inside),
            accepted="the folder of one",
            fix=f'load one of them, for example sk.load_sae("{folder / inside[0]}")',
        )
    saved = registry.read(folder)
    sae = SAE(saved.config)
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
