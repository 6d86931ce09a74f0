"""What a specificity panel asks for, and what its front end sends.

Plain values, so that a panel can be driven and tested without an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from ..errors import ConfigError
from ..specificity.concepts import Concept

UNITS = ("token", "document")
MEASURES = ("average_precision", "auroc", "f1", "precision")
"""What features can be ranked by."""
MARK = '{"at": 517, "unit": "token", "counts": True}'


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the panel should show: the latest one wins."""

    base: Concept | None
    """The concept without what is marked in the panel."""
    concept: Concept | None
    unit: Any
    by: Any
    n: int
    feature: int
    """-1 for the first of the ranking."""
    asked: int = 0
    """Grows when the same is asked for again."""

    @property
    def ranking(self) -> tuple[Any, ...]:
        """What the ranking depends on."""
        return (self.concept, self.unit, self.by, self.n)

    @property
    def scored(self) -> tuple[Any, ...]:
        """What the scores of the feature depend on."""
        return (self.concept, self.unit, self.feature)

    @property
    def listed(self) -> tuple[Any, ...]:
        """What the list of contexts stays for: marks do not change it, so that nothing moves while one marks."""
        return (self.base, self.unit, self.feature, self.asked)


class Press(TypedDict):
    """A button or key without anything else."""

    kind: Literal["undo", "stop", "run", "contexts"]


class MarkContext(TypedDict):
    """A context that counts, does not, or loses its mark."""

    kind: Literal["mark"]
    at: int
    unit: Literal["token", "document"]
    counts: bool | None


PanelMessage = Annotated[Press | MarkContext, Field(discriminator="kind")]
"""What the front end sends; widgets/src/specificity sends it."""


def check_mark(row: Any) -> dict[str, Any]:
    """A row of `marks` itself; ConfigError for what has another form."""
    keys = {"at": int, "unit": str, "counts": bool}
    if not isinstance(row, dict) or set(row) != set(keys):
        raise ConfigError("a mark has another form", got=f"{row!r:.100}", accepted=MARK)
    for key, kind in keys.items():
        if not isinstance(row[key], kind) or (kind is int and isinstance(row[key], bool)):
            raise ConfigError(f"a mark's {key} is of another type", got=f"{row!r:.100}", accepted=MARK)
    if row["unit"] not in UNITS:
        raise ConfigError("a mark's unit is unknown", got=row["unit"], accepted=" or ".join(UNITS))
    return dict(row)
