"""Edits: what is changed about a model's activation at a hook point, on which tokens, and how strongly.

An edit works on whatever tokens a forward pass shows it, one token or a whole prompt, and does not depend on
key-value caches, sampling or text. Each kind of edit is a class that registers itself by name: see feature_edits.py for
those of an SAE's features and direction_edits.py for those along a direction. A kind of your own is a subclass of
`Edit` with `@register_edit`; generation, steered models and their files then take it like any other.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..errors import ConfigError, MismatchError, unknown_name
from ..sae import SAE, TokenFilter
from .displays import edit_html
from .schedule import Schedule
from .where import Where

if TYPE_CHECKING:
    from ..models import LanguageModel

Positions = Literal["all", "prompt", "generated"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Edit(ABC):
    """One change at one hook point. Made by `clamp`, `scale`, `ablate`, `add`, `cap`, `add_direction`, `project_out`.

    >>> sk.clamp(sae, {3: 0.5}, unit="norm")
    clamp feature 3 to 0.5 x the residual norm at blocks.0.hook_resid_post, at all positions
    """

    kind: ClassVar[str]
    """The name of this kind of edit in EDITS and in files."""
    parts: ClassVar[tuple[str, ...]]
    """Names of what a file holds about the change: the class's own fields, unless `to_parts` says otherwise."""
    earlier_parts: ClassVar[tuple[str, ...]] = ()
    """What files of earlier versions hold beside `parts`; it is not read."""

    positions: Positions = "all"
    """all: every token. prompt: tokens given to the model, a chat template's too. generated: tokens it wrote."""
    where: tuple[Where, ...] = ()
    """Only tokens for which all of these hold."""
    schedule: Schedule | None = None
    """How much of the change is made as the text grows; None: all of it."""

    def __post_init__(self) -> None:
        if self.positions not in get_args(Positions):
            raise unknown_name("positions", self.positions, get_args(Positions))
        for where in self.where:
            if not isinstance(where, Where):
                raise ConfigError("where= needs an sk.Where", got=where, accepted="sk.Where.token, sk.Where.fires")
            if where.sae is not None and where.sae.config.hook_name != self.hook_name:
                raise MismatchError(
                    "where= reads another hook point than the edit",
                    got=where.sae.config.hook_name,
                    accepted=self.hook_name,
                    fix="use a feature of an SAE at the edit's hook point",
                )
        if self.schedule is not None and not isinstance(self.schedule, Schedule):
            raise ConfigError("not a schedule", got=self.schedule, accepted="sk.Schedule.steps, sk.Schedule.linear")

    @property
    @abstractmethod
    def hook_name(self) -> str:
        """The hook point whose activation is edited."""

    @property
    @abstractmethod
    def token_filter(self) -> TokenFilter | None:
        """The token filter that leaves out special tokens and sinks; None where neither SAE nor direction stores one,
        and the default of the model and hook point holds."""

    @abstractmethod
    def delta(self, x: Float[Tensor, "n d_in"], norm: Float[Tensor, " n"]) -> Float[Tensor, "n d_in"]:
        """What the edit adds to activations x in full; `norm` is each token's own norm (used by unit "norm")."""

    @abstractmethod
    def check(self, model: LanguageModel) -> None:
        """MismatchError when the edit is for another model."""

    @abstractmethod
    def in_words(self) -> str:
        """The change as a phrase, such as "ablate feature 3"; hook point, positions and the rest are put behind it."""

    def to_parts(self) -> dict[str, Any]:
        """The change as JSON values under the names in `parts`; an SAE as its fingerprint, "sae_fingerprint"."""
        return {name: getattr(self, name) for name in self.parts}

    @classmethod
    def from_parts(cls, saved: Mapping[str, Any], saes: Sequence[SAE], **shared: Any) -> Self:
        """The edit that `to_parts` wrote; `shared` has positions, where and schedule. See `sae_of` for the SAE."""
        return cls(**{name: saved[name] for name in cls.parts}, **shared)

    def changed_features(self) -> tuple[int, ...]:
        """The SAE's features that the edit sets; none for an edit without an SAE."""
        return ()

    def __repr__(self) -> str:
        parts = [f"{self.in_words()} at {self.hook_name}", f"at {self.positions} positions", *map(repr, self.where)]
        return ", ".join([*parts, *([repr(self.schedule)] if self.schedule else [])])

    _repr_html_ = edit_html

    def to_dict(self) -> dict[str, Any]:
        """The edit as JSON values, with all that its effect depends on. Weights stay behind: an SAE is named by its
        fingerprint, which says nothing of the hook point it reads and of the tokens that it leaves out."""
        return {
            "kind": self.kind,
            **self.to_parts(),
            "hook_name": self.hook_name,
            "token_filter": self.token_filter.to_dict() if self.token_filter else None,
            "positions": self.positions,
            "where": [where.to_dict() for where in self.where],
            "schedule": self.schedule.to_dict() if self.schedule else None,
        }

    @staticmethod
    def from_dict(saved: Mapping[str, Any], saes: SAE | Sequence[SAE] = ()) -> Edit:
        """The edit that `to_dict` wrote; `saes` are those it was made for.

        MismatchError for any other, and for the same one at another hook point or with another token filter.

        >>> edit = sk.ablate(sae, [1, 2])
        >>> sk.Edit.from_dict(edit.to_dict(), sae) == edit
        True
        """
        kind = _kind(saved)
        if kind not in EDITS:
            raise unknown_name("kind of edit", kind, EDITS, fix="define and register that kind first: register_edit")
        edit = EDITS[kind]
        known = {"kind", "positions", "where", "schedule", *edit.parts}
        for name in (*known.symmetric_difference(saved),):
            if name in known:
                raise ConfigError(f"the saved edit has no {name!r}", got=sorted(saved), accepted=sorted(known))
            if name not in (*edit.earlier_parts, *LATER_PARTS):
                raise unknown_name("part of an edit", name, sorted(known))
        given = [saes] if isinstance(saes, SAE) else list(saes)
        if "hook_name" in saved:  # of SAEs with the same weights, the one at that hook point
            given.sort(key=lambda sae: sae.config.hook_name != saved["hook_name"])
        made = edit.from_parts(
            saved,
            given,
            positions=saved["positions"],
            where=tuple(Where.from_dict(where, given) for where in saved["where"]),
            schedule=Schedule.from_dict(saved["schedule"]) if saved["schedule"] else None,
        )
        now = json.loads(json.dumps({name: made.to_dict()[name] for name in LATER_PARTS if name in saved}))
        for name, value in now.items():
            if value != saved[name]:
                raise MismatchError(
                    f"the edit was made for another {name.replace('_', ' ')} than the SAE that was passed has",
                    got=value,
                    accepted=saved[name],
                    fix="pass the SAE it was made for; for this one make the edit again",
                )
        return made

    def covers(
        self,
        tokens: Int[Tensor, "batch pos"],
        x: Float[Tensor, "batch pos d_in"],
        *,
        attended: Bool[Tensor, "batch pos"] | None = None,
        step: Int[Tensor, "batch pos"] | None = None,
        token_filter: TokenFilter | None = None,
    ) -> Bool[Tensor, "batch pos"]:
        """True where the edit applies: by position and `where`, never on padding, special tokens or sinks.

        Sinks and special tokens are what the edit's token filter leaves out (`token_filter` where it has none), judged
        on x. `step` counts the new tokens before each one, negative for the prompt's; without it every token is the
        prompt's.
        """
        kept_by = self.token_filter or token_filter
        if kept_by is None:
            raise ConfigError(
                "which tokens are special or sinks is not known, so the edit cannot leave them alone",
                got=f"{self!r}, without a token filter",
                accepted="a token filter; TokenFilter() to edit every token",
                fix="pass token_filter=sk.resolve_token_filter(model, sae)",
            )
        held = kept_by.keep(tokens, x)
        if attended is not None:
            held = held & attended
        for where in self.where:
            held = held & where.mask(tokens, x)
        if self.positions == "all":
            return held
        generated = torch.zeros_like(held) if step is None else step >= 0
        return held & (generated if self.positions == "generated" else ~generated)


LATER_PARTS = ("hook_name", "token_filter")
"""What files of earlier versions do not say of an edit."""
EDITS: dict[str, type[Edit]] = {}
"""Every kind of edit by its name; filled by `register_edit`."""
E = TypeVar("E", bound=type[Edit])


def register_edit(edit: E) -> E:
    """Adds a class to EDITS under its `kind`, and returns it. ConfigError for a name that another class has.

    >>> from saekit.steering.edits import EDITS
    >>> sorted(EDITS)
    ['ablate', 'add', 'add_direction', 'cap', 'clamp', 'project_out', 'scale']
    """
    taken = EDITS.setdefault(edit.kind, edit)
    if (taken.__module__, taken.__qualname__) != (edit.__module__, edit.__qualname__):
        raise ConfigError(
            f"the kind of edit {edit.kind!r} is taken",
            got=f"{edit.__module__}.{edit.__qualname__}",
            accepted="a name that is not among " + ", ".join(EDITS),
            fix="give the class another `kind`",
        )
    EDITS[edit.kind] = edit  # a notebook cell may define it again
    return edit


def _kind(saved: Mapping[str, Any]) -> Any:
    """The name of a saved edit's kind; earlier versions wrote "add" for a direction too."""
    kind = saved.get("kind")
    return "add_direction" if kind == "add" and "direction" in saved else kind
