"""What the arguments of public functions may be, by their names: one name means one thing everywhere.

A number that cannot be (inf, nan, 2.5 documents, -1, "3", True), a text in place of a path and a word in place of a
model, an SAE, an index or a concept are refused before any work, whatever the function.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

from .errors import ConfigError, FileError, check_count, check_number, check_seed

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
NATURAL = {"after", "before", "max_new_tokens", "min_each", "min_firings", "n_children", "overlap"}
"""Counts of at least 0."""
REPEATED = {"n_controls": 100_000, "n_permutations": 100_000, "n_reseeds": 1_000}
"""How often something is repeated: from 0 to so many, beyond which only time and memory grow."""
STARS = {"stars": 5}
"""Ratings: from 1 to so many."""
FRACTIONS = {"fraction_held_out"}
"""Numbers above 0 and below 1."""
REAL = {"amplification", "bias", "level", "strength"}
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


PATHS = {"folder", "out", "path", "path_or_name"}
"""Files and folders, and names of what is fetched."""
LONGEST_PATH = 4096
OBJECTS = {
    "concept": (("token_mask", "present"), 'sk.Concept.regex("golden gate")'),
    "index": (("d_sae", "features", "matched_features"), "sk.load_index(folder), or sk.build_index(...)"),
    "model": (("tokenize", "forward"), "sk.load_model(name)"),
    "sae": (("config", "__iter__"), "sk.load_sae(folder)"),
}
"""Things of saekit: what one of them has (any of these), and what makes it."""
CALLED = {"concept": "a concept", "index": "an index", "model": "a model", "sae": "an SAE"}


def check_argument(name: str, value: Any) -> Any:
    """A number as an int or a float, all else as it is; ConfigError where it is not what the name means.

    >>> from saekit.arguments import check_argument
    >>> check_argument("batch_size", 8), check_argument("temperature", 1)
    (8, 1.0)
    """
    if name in POSITIVE:
        return check_count(name, value, most=MANY)
    if name in NATURAL:
        return check_count(name, value, least=0, most=MANY)
    if name in REPEATED:
        return check_count(name, value, least=0, most=REPEATED[name])
    if name in STARS:
        return check_count(name, value, most=STARS[name])
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
    if name in PATHS:
        check_path(name, value)
    if name in OBJECTS:
        _check_object(name, value)
    return value


def check_path(name: str, value: Any) -> None:
    """FileError for what is neither text nor a path, or is no file's name: with a NUL, or longer than 4,096.

    >>> from saekit.arguments import check_path
    >>> check_path("out", "a text in place of a path " * 1000)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    saekit.errors.FileError: out is no path: it is too long
      seen:     'a text in place of a path a text in place of a path a text i...
    """
    accepted = "a path as text or pathlib.Path"
    try:
        text = os.fsdecode(os.fspath(value))
    except (TypeError, ValueError):
        text = None
    if text is None or isinstance(value, bytes):
        raise FileError(f"{name} is no path", got=f"{type(value).__name__}: {value!r:.80}", accepted=accepted)
    too_long = len(text) > LONGEST_PATH or any(len(part.encode("utf8", "replace")) > 255 for part in text.split("/"))
    if "\0" in text or too_long:
        why = "it is too long" if too_long else "it holds a NUL character"
        raise FileError(f"{name} is no path: {why}", got=f"{text[:80]!r}", accepted=accepted, fix="check the path")


def _check_object(name: str, value: Any) -> None:
    has, maker = OBJECTS[name]
    if isinstance(value, (str, bytes)) or not any(hasattr(value, attribute) for attribute in has):
        raise ConfigError(
            f"{name} is not {CALLED[name]}",
            got=f"{type(value).__name__}: {value!r:.80}",
            accepted=CALLED[name],
            fix=f"pass {maker}",
        )


def checks_arguments(function: Function) -> Function:
    """The function, its arguments being checked by `check_argument` first; None stays where it is accepted.

    >>> from saekit.arguments import checks_arguments
    >>> @checks_arguments
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
                if name in OBJECTS:
                    raise
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
