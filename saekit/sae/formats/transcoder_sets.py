"""A transcoder for each layer of a model, read at once from a set in circuit-tracer's layout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ...arguments import checks_arguments
from ...errors import FileError
from ..base import SAE
from . import releases
from .circuit_tracer import CONFIG, layer_files, set_config
from .loading import load_sae
from .locations import locate_set


@checks_arguments
def load_transcoders(path: str | Path) -> list[SAE]:
    """The transcoders of a set in circuit-tracer's layout, in the order of their layers.

    `path` is the set's folder, here or on the Hub ("hf://owner/repository@revision"), with a config.yaml and
    layer_0.safetensors, layer_1.safetensors and so on, or with a config.yaml that lists where its transcoders are; or
    a release of SAELens that has one transcoder a layer ("mwhanna-qwen3-4b-transcoders"). FileError for a folder that
    holds none, or lacks a layer.

    >>> shapes = {"W_enc": (64, 8), "W_dec": (64, 8), "b_enc": (64,), "b_dec": (8,)}
    >>> from safetensors.torch import save_file
    >>> for layer in (0, 1):
    ...     weights = {name: torch.randn(shape) for name, shape in shapes.items()}
    ...     save_file(weights, tmp_path / f"layer_{layer}.safetensors")
    >>> [transcoder.config.d_sae for transcoder in sk.load_transcoders(tmp_path)]
    [64, 64]
    """
    if (release := str(path)) in releases.table() and not Path(path).exists():
        return [load_sae(f"{release}/{sae_id}") for sae_id in releases.ids_by_layer(release)]
    folder = locate_set(path)
    cfg = set_config(folder)
    listed = cfg.get("transcoders")
    places: list[Any] = [_place(folder, name) for name in listed or []]
    found = {int(m[1]): p for p in layer_files(folder) if (m := re.search(r"(\d+)$", p.stem))}
    if not listed:
        places = [found[layer] for layer in sorted(found)]
    if not places or (not listed and sorted(found) != list(range(len(found)))):
        raise FileError(
            f"{folder} is no whole set of transcoders",
            got=", ".join(p.name for p in places) or "no layers",
            accepted="layer_0.safetensors, layer_1.safetensors, ... without a gap, or a config.yaml that lists them",
            fix="fetch or copy the whole folder",
        )
    ends = {"hook_name": cfg.get("feature_input_hook"), "hook_out": cfg.get("feature_output_hook")}
    out = []
    for layer, place in enumerate(places):
        hooks = {name: f"blocks.{layer}.{hook}" for name, hook in ends.items() if hook}
        out.append(load_sae(place, **hooks))
    return out


def _place(folder: Path, name: str) -> str:
    """What a set's configuration lists: a file in its folder, or a place elsewhere by a name of `load_sae`.

    FileError for a path that leads out of the folder.
    """
    if ".." in Path(name).parts or Path(name).is_absolute():
        raise FileError(
            f"{folder / CONFIG} lists a file outside its folder",
            got=name,
            accepted="files in the folder, or places on the Hub: hf://owner/repository/path",
            fix="copy the transcoders into the folder, or load each by its own path",
        )
    return str(path) if (path := folder / name).exists() else name
