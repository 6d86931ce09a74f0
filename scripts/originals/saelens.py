"""SAELens loads: from a folder, or by a name of its list with files in place of the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sae_lens import SAE
from sae_lens.loading import pretrained_sae_loaders as loaders
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory
from torch import Tensor

from .cases import RELEASES, D, Original


def by_saelens(sae: Any) -> Original:
    def original(x: Tensor) -> tuple[Tensor, Tensor]:
        if sae.cfg.reshape_activations == "hook_z":
            heads = x.view(len(x), 4, D // 4)
            return sae.encode(heads), sae(heads).reshape(len(x), D)
        return sae.encode(x), sae(x)

    return original


def published(root: Path, name: str, **overrides: Any) -> tuple[str, Original]:
    """The SAE of a case's release and id, loaded by SAELens from files under `root` in place of the Hub."""
    release, sae_id = RELEASES[name]
    loaders.hf_hub_download = lambda repo_id, filename, subfolder=None, **_: local(root, filename, subfolder)
    loaders.get_safetensors_tensor_shapes = lambda repo_id, filename: shapes(root / filename)
    loader = loaders.NAMED_PRETRAINED_SAE_LOADERS[loaders.get_conversion_loader_name(release)]

    def converted(**arguments: Any) -> Any:
        return loader(**{**arguments, "cfg_overrides": {**(arguments["cfg_overrides"] or {}), **overrides}})

    return place(name), by_saelens(SAE.from_pretrained(release, sae_id, converter=converted))


def place(name: str) -> str:
    """The path of a case in its repository."""
    release, sae_id = RELEASES[name]
    return get_pretrained_saes_directory()[release].saes_map[sae_id]


def local(root: Path, filename: str, subfolder: str | None) -> str:
    path = root / (subfolder or "") / filename
    if not path.is_file():
        raise loaders.EntryNotFoundError(f"no {path}")
    return str(path)


def shapes(path: Path) -> dict[str, list[int]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as f:
        return {name: list(f.get_tensor(name).shape) for name in f.keys()}  # noqa: SIM118
