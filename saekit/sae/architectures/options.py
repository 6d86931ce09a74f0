"""The fields of SAEConfig that only some architectures have: their default and what each may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from ..config import SAEConfig
    from .architecture import Architecture

L0_PENALTIES = ("linear", "quadratic")


class Option(NamedTuple):
    """One field: its value where it is left out, and a check of any other, which raises."""

    default: Any
    check: Callable[[str, Any, SAEConfig], None]


def check_options(config: SAEConfig, architecture: Architecture, known: Iterable[Architecture]) -> None:
    """Raises ConfigError for an option that the architecture does not have, needs, or has within other bounds."""
    for name, option in OPTIONS.items():
        value = getattr(config, name)
        if name not in architecture.options:
            if value != option.default:
                raise ConfigError(
                    f"the {architecture.name} architecture has no {name}",
                    got=value,
                    accepted=f"it is an option of {', '.join(a.name for a in known if name in a.options)}",
                    fix=f"leave {name} out, or choose another activation",
                )
        elif value is not None or name in architecture.needs:
            option.check(name, value, config)
    architecture.check(config)


def is_number(value: object) -> bool:
    """Whether it is a number, which True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: object) -> bool:
    """Whether it is an integer of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def check_weight(name: str, value: Any, config: SAEConfig) -> None:
    """ConfigError unless it is a finite number of at least 0."""
    if not (is_number(value) and 0 <= value < math.inf):
        raise ConfigError(
            f"{name} is out of range",
            got=repr(value),
            accepted="a number of at least 0",
            fix=f"leave {name} out, or pass a number",
        )


def _check_k(name: str, value: Any, config: SAEConfig) -> None:
    if not is_count(value) or value > config.d_sae:
        raise ConfigError(
            f"k does not fit the {config.activation} architecture",
            got=f"k = {value!r}",
            accepted=f"an integer from 1 to d_sae = {config.d_sae}",
            fix="pass, for example, k=32",
        )


def _between(most: Callable[[SAEConfig], float]) -> Callable[[str, Any, SAEConfig], None]:
    def check(name: str, value: Any, config: SAEConfig) -> None:
        if not (is_number(value) and 0 < value < most(config)):
            raise ConfigError(
                f"{name} is out of range",
                got=repr(value),
                accepted=f"a number between 0 and {most(config):g}",
                fix=f"leave {name} out, or pass a number",
            )

    return check


def _check_l0_penalty(name: str, value: Any, config: SAEConfig) -> None:
    if value not in L0_PENALTIES:
        raise unknown_name(name, value, L0_PENALTIES)


def _check_matryoshka(name: str, sizes: Any, config: SAEConfig) -> None:
    if sizes != () and not (
        isinstance(sizes, tuple)
        and all(is_count(n) for n in sizes)
        and list(sizes) == sorted(set(sizes))
        and sizes[-1] == config.d_sae
    ):
        raise ConfigError(
            "matryoshka is not a tuple of nested prefix sizes",
            got=repr(sizes),
            accepted=f"a tuple of rising positive integers that ends with d_sae = {config.d_sae}",
            fix=f"pass, for example, matryoshka=({config.d_sae // 4}, {config.d_sae // 2}, {config.d_sae})",
        )


OPTIONS: dict[str, Option] = {
    "k": Option(None, _check_k),
    "matryoshka": Option((), _check_matryoshka),
    "multi_k_coefficient": Option(0.0, check_weight),
    "sparsity_coefficient": Option(None, check_weight),
    "target_l0": Option(None, _between(lambda config: config.d_sae)),
    "l0_penalty": Option("linear", _check_l0_penalty),
    "bandwidth": Option(None, _between(lambda config: math.inf)),
    "firing_rate": Option(None, _between(lambda config: 1.0)),
}
