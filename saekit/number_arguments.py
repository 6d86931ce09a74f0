"""What the numbers among the arguments of public functions may be, by the argument's name: one name means one thing.

A number that cannot be (inf, nan, 2.5 documents, -1, "3", True) is refused before any work, whatever the function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

from .errors import ConfigError, check_count, check_number, check_seed

Function = TypeVar("Function", bound=Callable[..., Any])

MANY = 2**53
POSITIVE = {
    "batch_size",
    "buffer_tokens",
    "chunk_windows",
    "length",
    "max_tokens",
    "n",
    "n_curves",
    "n_each",
    "n_epochs",
    "n_features",
    "n_following",
    "n_held_out",
    "n_per_bin",
    "n_tokens",
    "n_top",
    "n_windows",
    "n_words",
    "d_model",
    "texts_per_control",
}
"""Counts of at least 1."""
NATURAL = {"after", "before", "max_new_tokens", "min_each", "min_firings", "n_children"}
"""Counts of at least 0."""
REPEATED = {"n_bootstrap": 100_000, "n_controls": 100_000, "n_permutations": 100_000}
"""How often something is repeated: from 0 to so many, beyond which only time and memory grow."""
FRACTIONS = {"fraction_held_out"}
"""Numbers above 0 and below 1."""
REAL = {"amplification", "level", "strength"}
"""Finite numbers."""
NOT_NEGATIVE = {"above", "min_f1", "temperature"}
"""Finite numbers of at least 0."""
ABOVE_ZERO = {"multiple"}
"""Finite numbers above 0."""
LISTS: dict[str, Callable[[str, Any], Any]] = {
    "seeds": lambda name, value: check_seed(value, name),
    "strengths": lambda name, value: check_number(name, value),
}
"""Sequences, by what each of their values must be."""


def check_argument(name: str, value: Any) -> Any:
    """A number as an int or a float, by what its argument's name means; what has no such name as it is.

    >>> from saekit.number_arguments import check_argument
    >>> check_argument("batch_size", 8), check_argument("temperature", 1)
    (8, 1.0)
    """
    if name in POSITIVE:
        return check_count(name, value, most=MANY)
    if name in NATURAL:
        return check_count(name, value, least=0, most=MANY)
    if name in REPEATED:
        return check_count(name, value, least=0, most=REPEATED[name])
    if name == "seed":
        return check_seed(value)
    if name in FRACTIONS:
        return _fraction(name, value)
    if name in REAL:
        return check_number(name, value)
    if name in NOT_NEGATIVE:
        return check_number(name, value, least=0)
    if name in ABOVE_ZERO:
        return check_number(name, value, least=0, above=True)
    if name in LISTS:
        return _each(name, value)
    return value


def checks_numbers(function: Function) -> Function:
    """The function, its numbers being checked by `check_argument` first; None stays where it is accepted.

    >>> from saekit.number_arguments import checks_numbers
    >>> @checks_numbers
    ... def windows(n, *, length=128):
    ...     return n * length
    >>> windows(2)
    256
    >>> windows(2, length=float("nan"))
    Traceback (most recent call last):
    saekit.errors.ConfigError: length is not a whole number
      seen:     nan
      accepted: an integer from 1 to 9007199254740992
      fix:      pass length=128
    """
    signature = inspect.signature(function)
    defaults = {name: p.default for name, p in signature.parameters.items()}
    optional = {name for name, p in signature.parameters.items() if p.default is None or "None" in str(p.annotation)}

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # which says what is missing, or what it does not know
        for name, value in bound.arguments.items():
            if value is None and name in optional:
                continue
            try:
                bound.arguments[name] = check_argument(name, value)
            except ConfigError as e:
                raise _with_default(e, name, defaults[name]) from None
        return function(*bound.args, **bound.kwargs)

    return cast(Function, checked)


def _with_default(error: ConfigError, name: str, default: Any) -> ConfigError:
    """The error with the default as the fix, where there is one."""
    if default is inspect.Parameter.empty or default is None:
        return error
    return ConfigError(error.what, got=error.got, accepted=error.accepted, fix=f"pass {name}={default!r}")


def _fraction(name: str, value: Any) -> float:
    number = check_number(name, value, least=0, most=1, above=True)
    if number == 1:
        raise ConfigError(f"{name} is too large", got=repr(value), accepted="a number above 0 and below 1")
    return number


def _each(name: str, values: Any) -> Any:
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        try:
            values = list(values) if not isinstance(values, (str, bytes)) else None
        except TypeError:
            values = None
        if values is None:
            raise ConfigError(f"{name} is no list of numbers", got=repr(values), accepted="a list, such as [0, 1]")
    return [LISTS[name](name, value) for value in values]
