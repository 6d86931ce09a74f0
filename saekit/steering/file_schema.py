"""What the files of steering hold: edits of a steered model, and the plan and texts of a study."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from ..json_files import Finite, Natural, TokenId
from ..sae.token_filter import TokenFilterFields

Bounded = Annotated[float, Field(gt=-(2**53), lt=2**53)]


class WhereFields(TypedDict, total=False):
    """A Where as JSON."""

    sae_fingerprint: str
    feature: Natural
    above: Finite
    pattern: str
    ids: list[TokenId]
    negated: bool


class ScheduleFields(TypedDict):
    """A Schedule as JSON."""

    points: list[Annotated[list[Bounded], Field(min_length=2, max_length=2)]]
    between: bool


class DirectionFields(TypedDict):
    """A Direction as JSON."""

    vectors: list[list[Finite]]
    hook_name: str
    name: str
    token_filter: TokenFilterFields | None


class EditFields(TypedDict):
    """What every edit has."""

    kind: str
    positions: Literal["all", "prompt", "generated"]
    where: list[WhereFields]
    schedule: ScheduleFields | None


class BuiltInFields(EditFields, total=False):
    """The parts of the edits that come with saekit; each has some of them."""

    sae_fingerprint: str
    features: list[Natural]
    values: list[Finite]
    unit: str
    maxima: list[Finite] | None
    direction: DirectionFields
    value: Finite


class SteeredFields(TypedDict):
    """A file of SteeredModel.save."""

    format: Literal[1]
    model_name: str
    model_fingerprint: str
    sentences: list[str]
    edits: list[EditFields]


class TextFields(TypedDict):
    """One text of a study."""

    condition: str
    feature: int | None
    strength: Finite
    prompt: str
    seed: int
    text: str
    tokens: list[TokenId]
    concept_present: bool
    nll: float | None
    repetition: float
    n_tokens: Natural
    finish_reason: str
    kl: NotRequired[float]
    relevance: NotRequired[float]
    drift: NotRequired[float]


Plan = dict[str, Any]
"""study.json: whatever the study depends on."""
BUILT_IN = ("clamp", "scale", "ablate", "add", "cap", "add_direction", "project_out")
