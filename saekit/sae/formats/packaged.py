"""The SAEs that come with the package, by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...atomic_io import read_json
from ...errors import FileError, unknown_name
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
    for name in _names():
        folder = PRETRAINED / name
        cfg = read_json(folder / CONFIG)
        config = config_of(cfg, folder / CONFIG)
        training = cfg["metadata"].get("saekit", {}).get("training", {})
        size = (folder / WEIGHTS).stat().st_size / 1e6 if (folder / WEIGHTS).is_file() else None
        rows[name] = {c: getattr(config, c, training.get(c)) for c in columns} | {"mb": size}
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("name")


def packaged_folder(path_or_name: str | Path) -> Path:
    """The folder of the packaged SAE of that name; UnknownNameError for another name, FileError for a path."""
    if isinstance(path_or_name, Path) or str(path_or_name).startswith((".", "/", "~")):
        raise FileError(
            f"no SAE folder at {path_or_name}",
            got=path_or_name,
            accepted=f"a folder with {CONFIG} and {WEIGHTS}",
            fix="check the path; sk.list_saes() shows the SAEs that come with saekit",
        )
    names = _names()
    if str(path_or_name) not in names:
        raise unknown_name("SAE", path_or_name, names, fix="pass a folder that holds an SAE, or one of these names")
    return PRETRAINED / str(path_or_name)


def _names() -> list[str]:
    return sorted(p.parent.relative_to(PRETRAINED).as_posix() for p in PRETRAINED.rglob(CONFIG))
