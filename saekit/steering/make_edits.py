"""The functions that make edits: clamp, scale, ablate, add and cap features; add or project out directions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ..arguments import checks_arguments
from ..errors import ConfigError, MismatchError, check_feature, check_number
from ..sae import SAE
from .direction_edits import AddDirection, ProjectOut
from .directions import Direction
from .edits import Edit, Positions
from .feature_edits import Ablate, Add, Cap, Clamp, FeatureEdit, Scale
from .schedule import Schedule
from .strength_units import StrengthUnit
from .where import Where

if TYPE_CHECKING:
    from ..index import FeatureIndex

OneOrManyWhere: TypeAlias = "Where | Sequence[Where]"


@checks_arguments
def clamp(
    sae: SAE,
    values: Mapping[int, float],
    *,
    unit: StrengthUnit = "raw",
    positions: Positions = "all",
    where: OneOrManyWhere = (),
    schedule: Schedule | None = None,
    index: FeatureIndex | None = None,
) -> Edit:
    """An Edit that holds each feature at its value: adds (v - a_i) W_dec[i], whatever the activation a_i was.

    Units: "raw", the SAE's activations; "max", multiples of the feature's maximum in `index`; "norm", fractions of the
    norm of the token's own activation: at 1.0 what the feature writes is as long as the rest, however long its decoder
    row is.
    Positions: "all"; "prompt", tokens given to the model; "generated", tokens it wrote, so that the first new token,
    which is read off the last prompt token, is not yet affected. `where`: only tokens for which every `Where`
    holds. `schedule`: how much of the change is made as the text grows (`Schedule`). Raises UnknownNameError for a
    feature the SAE does not have, ConfigError for a value that is not finite.

    >>> sk.clamp(sae, {3: 2.0, 7: 0.0}, positions="generated")
    clamp features 3 to 2 and 7 to 0 at blocks.0.hook_resid_post, at generated positions
    >>> sk.clamp(sae, {3: 2.0}, where=~sk.Where.fires(sae, 7), schedule=sk.Schedule.steps({0: 1, 9: 0}))
    clamp feature 3 to 2 at blocks.0.hook_resid_post, at all positions, where feature 7 is not above 0, in full, from new token 9 not at all
    """  # noqa: E501
    return _edit(Clamp, sae, values, unit, positions, where, schedule, index)


@checks_arguments
def scale(
    sae: SAE,
    values: Mapping[int, float],
    *,
    positions: Positions = "all",
    where: OneOrManyWhere = (),
    schedule: Schedule | None = None,
) -> Edit:
    """An Edit that multiplies each feature's activation by its factor: adds (s - 1) a_i W_dec[i].

    >>> sk.scale(sae, {3: 2.0})
    scale feature 3 by 2 at blocks.0.hook_resid_post, at all positions
    """
    return _edit(Scale, sae, values, "raw", positions, where, schedule, None)


@checks_arguments
def ablate(
    sae: SAE,
    features: int | Iterable[int],
    *,
    positions: Positions = "all",
    where: OneOrManyWhere = (),
    schedule: Schedule | None = None,
) -> Edit:
    """An Edit that removes features: adds -a_i W_dec[i].

    >>> sk.ablate(sae, 3)
    ablate feature 3 at blocks.0.hook_resid_post, at all positions
    """
    listed = list(features) if isinstance(features, Iterable) else [features]
    return _edit(Ablate, sae, dict.fromkeys(listed, 0.0), "raw", positions, where, schedule, None)


@checks_arguments
def add(
    sae: SAE,
    values: Mapping[int, float],
    *,
    unit: StrengthUnit = "raw",
    positions: Positions = "all",
    where: OneOrManyWhere = (),
    schedule: Schedule | None = None,
    index: FeatureIndex | None = None,
) -> Edit:
    """An Edit that adds v W_dec[i] whatever the feature's activation. Units, positions and `where` as in `clamp`.

    >>> sk.add(sae, {3: 2.0})
    add 2 of feature 3 at blocks.0.hook_resid_post, at all positions
    """
    return _edit(Add, sae, values, unit, positions, where, schedule, index)


@checks_arguments
def cap(
    sae: SAE,
    values: Mapping[int, float],
    *,
    unit: StrengthUnit = "raw",
    positions: Positions = "all",
    where: OneOrManyWhere = (),
    schedule: Schedule | None = None,
    index: FeatureIndex | None = None,
) -> Edit:
    """An Edit that lowers features which exceed their value to it: adds (min(a_i, v) - a_i) W_dec[i].

    Units, positions and `where` as in `clamp`.

    >>> sk.cap(sae, {3: 1.0})
    cap feature 3 at 1 at blocks.0.hook_resid_post, at all positions
    """
    return _edit(Cap, sae, values, unit, positions, where, schedule, index)


@checks_arguments
def add_direction(
    direction: Direction,
    value: float,
    *,
    unit: StrengthUnit = "norm",
    positions: Positions = "all",
    where: OneOrManyWhere = (),
    schedule: Schedule | None = None,
) -> Edit:
    """An Edit that adds `value` times a direction, taken at length 1. Unit "norm": fractions of the token's own norm.

    >>> sk.add_direction(sk.Direction(sae.W_dec[3], hook_name=HOOK, name="gates"), 0.4)
    add 0.4 x the residual norm along 'gates' at blocks.0.hook_resid_post, at all positions
    """
    if not hasattr(direction, "vectors"):
        raise ConfigError(
            "this is no direction",
            got=f"{direction!r:.80}",
            accepted="an sk.Direction",
            fix="sk.Direction(vector, hook_name=...)",
        )
    return AddDirection(
        direction=direction,
        value=check_number("the value", value),
        unit=unit,
        positions=positions,
        where=_as_tuple(where),
        schedule=schedule,
    )


@checks_arguments
def project_out(
    direction: Direction, *, positions: Positions = "all", where: OneOrManyWhere = (), schedule: Schedule | None = None
) -> Edit:
    """An Edit that removes what lies along a direction, or in the span of several.

    >>> sk.project_out(sk.Direction(sae.W_dec[:2], hook_name=HOOK, name="gates and doors"))
    project out 'gates and doors' at blocks.0.hook_resid_post, at all positions
    """
    return ProjectOut(direction=direction, positions=positions, where=_as_tuple(where), schedule=schedule)


def _as_tuple(where: OneOrManyWhere) -> tuple[Where, ...]:
    return (where,) if isinstance(where, Where) else tuple(where)


def _edit(
    edit: type[FeatureEdit],
    sae: SAE,
    values: Mapping[int, float],
    unit: StrengthUnit,
    positions: Positions,
    where: OneOrManyWhere,
    schedule: Schedule | None,
    index: FeatureIndex | None,
) -> Edit:
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{edit.kind} needs a value for each feature",
            got=values,
            accepted="a mapping from feature number to value",
            fix=f"sk.{edit.kind}(sae, {{feature: value}})",
        )
    features = tuple(check_feature(i, sae.config.d_sae) for i in values)
    return edit(
        sae=sae,
        features=features,
        values=tuple(check_number(f"the value of feature {i}", v) for i, v in values.items()),
        unit=unit,
        positions=positions,
        where=_as_tuple(where),
        schedule=schedule,
        maxima=_maxima(sae, features, index) if unit == "max" else None,
    )


def _maxima(sae: SAE, features: Sequence[int], index: FeatureIndex | None) -> tuple[float, ...]:
    """Each feature's largest activation in the index."""
    if index is None:
        raise ConfigError(
            'unit "max" needs the features\' maxima', got="index=None", fix="pass index=, the feature index of this SAE"
        )
    if index.sae_fingerprint != sae.fingerprint:
        raise MismatchError(
            "the index was built with another SAE",
            got=index.sae_fingerprint,
            accepted=sae.fingerprint,
            fix="pass the index of this SAE, or build one with sk.build_index",
        )
    known = index.features["max"]
    for i in features:
        check_feature(i, len(known))
        if not known.loc[i] > 0:
            raise ConfigError(
                f"feature {i} never fires in the index, so it has no maximum",
                got=float(known.loc[i]),
                fix='use unit="norm" or unit="raw"',
            )
    return tuple(float(known.loc[i]) for i in features)
