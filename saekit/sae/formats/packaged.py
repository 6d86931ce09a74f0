"""The SAEs that come with the package, by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...json_files import read_json
from .saelens import CONFIG, WEIGHTS, config_of

if TYPE_CHECKING:
    import pandas as pd

PRETRAINED = Path(__file__).resolve().parents[2] / "pretrained"


def list_saes() -> pd.DataFrame:
    """The SAEs that come with the package, one row each, indexed by the name that `load_sae` takes.

    >>> sk.list_saes().index.name
    'name'
    """
    import pandas as pd

    columns = ["model_name", "hook_name", "activation", "d_in", "d_sae", "k", "n_tokens", "explained_variance", "mb"]
    rows = {}
    for name in packaged_names():
        folder = PRETRAINED / name
        cfg = read_json(folder / CONFIG)
        config = config_of(cfg, folder / CONFIG)
        training = cfg["metadata"].get("saekit", {}).get("training", {})
        size = (folder / WEIGHTS).stat().st_size / 1e6 if (folder / WEIGHTS).is_file() else None
        rows[name] = {c: getattr(config, c, training.get(c)) for c in columns} | {"mb": size}
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("name")


def packaged_folder(name: str) -> Path | None:
    """The folder of the packaged SAE of that name; None for another name."""
    return PRETRAINED / name if name in packaged_names() else None


def packaged_names() -> list[str]:
    """The names of the packaged SAEs."""
    return sorted(p.parent.relative_to(PRETRAINED).as_posix() for p in PRETRAINED.rglob(CONFIG))
