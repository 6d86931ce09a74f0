"""What manifest.json of an index holds, and how large its arrays have to be by it."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict

from ..activations.excluded import ExcludedSchema
from ..json_files import Count, Hooks, Natural, Sha256


class Counts(TypedDict):
    """Sizes of the index."""

    n_windows: Natural
    length: Count
    n_tokens: Natural
    d_sae: Count
    n_documents: Natural
    n_firings: Natural
    n_silent: Natural
    n_dead_in_training: NotRequired[Natural | None]


class OfSAE(TypedDict):
    """The SAE that was indexed."""

    fingerprint: str
    config: dict[str, Any]


class OfModel(TypedDict):
    """The model that read the text."""

    name: str
    fingerprint: str
    weight_processing: NotRequired[str]
    begins_without_space: NotRequired[bool]
    ends_without_space: NotRequired[bool]
    special_ids: NotRequired[list[Natural]]


class OfFile(TypedDict):
    """One of the other files."""

    bytes: Natural
    sha256: Sha256


class Manifest(TypedDict):
    """The whole of it."""

    kind: str
    format: int
    plan: dict[str, Any]
    windows: NotRequired[str]
    sae: OfSAE
    model: OfModel
    hook_name: Hooks
    corpus: str
    token_filter: dict[str, Any]
    excluded: NotRequired[ExcludedSchema]
    counts: Counts
    statistics: NotRequired[list[str]]
    names_rule: NotRequired[int]
    parameters: dict[str, Any]
    files: dict[str, OfFile]
    checksum: str


def sizes_of(name: str, counts: Counts) -> dict[str, int]:
    """How many entries each array of a file has, or rows each table ("")."""
    n_tokens, d_sae, n_firings = counts["n_tokens"], counts["d_sae"], counts["n_firings"]
    sizes = {
        "by_token.safetensors": {"position": n_tokens, "start": n_tokens + 1, "column": n_firings, "value": n_firings},
        "by_feature.safetensors": {"start": d_sae + 1, "column": n_firings, "value": n_firings},
        "features.parquet": {"": d_sae},
        "names.parquet": {"": d_sae},
    }
    return sizes.get(name, {})
