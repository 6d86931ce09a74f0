"""What a steering panel requests: conditions, the conversation so far, and how to sample.

Plain values, so that a panel can be driven, tested and kept without a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field
from typing_extensions import TypedDict

from ..errors import ConfigError, check_feature, check_number, unknown_name
from ..steering.edits import Positions
from ..steering.strength_units import StrengthUnit, strength_text

MAX_FEATURES = 2**31
_ROW = '[{"feature": 3, "strength": 0.4}, ...]'


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is done to the model while it writes one of the texts; with nothing set, nothing."""

    name: str
    features: tuple[tuple[int, float], ...] = ()
    """(feature, strength): clamped, all of them together."""
    instruction: str = ""
    """A sentence behind each of the user's messages."""
    edits: str = ""
    """Edits made in Python, as a sentence."""

    def to_dict(self) -> dict[str, Any]:
        features = [{"feature": i, "strength": s} for i, s in self.features]
        return {**asdict(self), "features": features}

    @staticmethod
    def from_dict(saved: Mapping[str, Any], n_features: int | None = None) -> Condition:
        """ConfigError and UnknownNameError for what no condition has, or a feature beyond `n_features`."""
        accepted = ("name", "features", "instruction", "edits")
        for part in saved:
            if part not in accepted:
                raise unknown_name("part of a condition", part, accepted)
        for part in ("name", "instruction", "edits"):
            if not isinstance(saved.get(part, ""), str):
                raise ConfigError(f"a condition's {part} is not text", got=saved[part], accepted="a string")
        features = saved.get("features", ())
        if not isinstance(features, (list, tuple)):
            raise ConfigError("a condition's features are no list", got=features, accepted=_ROW)
        rows = [_feature_row(row, n_features or MAX_FEATURES) for row in features]
        if len({i for i, _ in rows}) < len(rows):
            raise ConfigError("a condition has a feature twice", got=rows, accepted="each feature once")
        return Condition(
            name=saved.get("name", ""),
            features=tuple(rows),
            instruction=saved.get("instruction", ""),
            edits=saved.get("edits", ""),
        )

    def at(self, feature: int, strength: float) -> Condition:
        """The condition with one strength changed."""
        return replace(self, features=tuple((i, strength if i == feature else s) for i, s in self.features))

    def in_words(self, unit: str) -> str:
        parts = [", ".join(f"feature {i} at {strength_text(s, unit)}" for i, s in self.features), self.edits]
        parts += [f"instruction: {self.instruction}"] if self.instruction else []
        return "; ".join(filter(None, parts)) or "as it is"


def _feature_row(row: Any, n_features: int) -> tuple[int, float]:
    if not isinstance(row, Mapping) or set(row) != {"feature", "strength"}:
        raise ConfigError("a condition's feature has no such form", got=row, accepted=_ROW)
    return check_feature(row["feature"], n_features), check_number("a strength", row["strength"])


class Press(TypedDict):
    """A button without anything else."""

    kind: Literal["run", "redo", "stop"]


class Reply(TypedDict):
    """The next message of the conversation."""

    kind: Literal["reply"]
    message: str


class Sweep(TypedDict):
    """The button beside a feature."""

    kind: Literal["sweep"]
    feature: int
    condition: int


PanelMessage = Annotated[Press | Reply | Sweep, Field(discriminator="kind")]
"""What the front end sends; widgets/src/steering sends it."""


@dataclass(frozen=True, kw_only=True)
class SteeringRequest:
    """One turn of some conversations side by side."""

    conditions: tuple[Condition, ...]
    messages: tuple[str, ...]
    """The user's messages so far, or the one text that is continued."""
    replies: tuple[tuple[str, ...], ...]
    """What was answered to all messages but the last, by condition."""
    chat: bool
    unit: StrengthUnit
    positions: Positions
    max_new_tokens: int
    temperature: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """A finished reply, token by token."""

    nll: Sequence[float]
    """How unlikely the unsteered model finds each token, in nats."""
    repetition: float
    """Fraction of repeated 4-grams of tokens."""
    acts: Mapping[str, bytes]
    """Feature activations, packed as for TokenHighlight."""
    choices: Sequence[Sequence[tuple[str, float, float]]]
    """For each token, what could have stood there: token, probability unsteered, probability as written."""
    names: Mapping[int, str]
    """Short names of the features that fire most."""


class NewToken(Protocol):
    """One token of a text; `steering.StreamToken` is one."""

    @property
    def text(self) -> str: ...


TokenSteps = Iterator[Sequence["NewToken | None"]]
WriteTexts = Callable[[SteeringRequest, Callable[[], bool]], TokenSteps]
"""(request, stop): for each step every condition's next token, None once its text has ended; `stop` is called before
each."""
ReadTexts = Callable[[SteeringRequest, Sequence[Sequence[Any]]], Sequence[Annotation]]
"""(request, each condition's new tokens): an annotation for each condition."""
DescribeFeature = Callable[[int], Mapping[str, Any]]
"""A feature's `name`, its `max` in the index (0 when unknown) and its `recommended` fraction of the norm, or None."""
ConceptPresent = Callable[[str], bool]
"""Whether a text shows the concept."""
