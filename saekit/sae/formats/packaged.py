"""The SAEs that come with the package, by name."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from typing_extensions import TypedDict

from ...json_files import Natural, read_json
from .saelens import CONFIG, WEIGHTS, config_of

if TYPE_CHECKING:
    import pandas as pd

PRETRAINED = Path(__file__).resolve().parents[2] / "pretrained"
LABELS = "labels.json"
"""What is known of some features of a packaged SAE, beside its weights; made by recipes/default_saes."""


class CardLabel(TypedDict):
    """A feature that a card describes."""

    feature: Natural
    label: str
    note: str


class CardStrength(TypedDict):
    """At which strength a feature steers, as a fraction of the residual norm."""

    feature: Natural
    strength: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    note: str


class CardLabels(TypedDict):
    """What the card of a packaged SAE says of single features."""

    sae: str
    labels: list[CardLabel]
    strengths: list[CardStrength]


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


def packaged_labels(fingerprint: str) -> CardLabels:
    """The labels and recommended strengths that a packaged SAE of this fingerprint brings; none for any other SAE.

    >>> from saekit.sae.formats.packaged import packaged_labels
    >>> packaged_labels(sae.fingerprint)["labels"]
    []
    """
    return _all_labels().get(fingerprint) or CardLabels(sae=fingerprint, labels=[], strengths=[])


@functools.cache
def _all_labels() -> dict[str, CardLabels]:
    found = [read_json(path, CardLabels) for path in sorted(PRETRAINED.rglob(LABELS))]
    return {labels["sae"]: labels for labels in found}
