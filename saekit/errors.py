"""Every exception saekit raises on purpose.

Each says four things: what was wrong, the value seen, what is accepted and how to fix it. `disk_errors` translates
errors of the operating system.
"""

from __future__ import annotations

import difflib
import errno
import math
import operator
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class SaekitError(Exception):
    """Base of all saekit errors.

    >>> print(SaekitError("k is not positive", got=0, accepted="an integer of at least 1", fix="pass k=32"))
    k is not positive
      seen:     0
      accepted: an integer of at least 1
      fix:      pass k=32
    """

    def __init__(self, what: str, *, got: object = None, accepted: object = None, fix: str | None = None) -> None:
        self.what, self.got, self.accepted, self.fix = what, got, accepted, fix
        lines = [what]
        if got is not None:
            lines.append(f"  seen:     {_short(got)}")
        if accepted is not None:
            lines.append(f"  accepted: {_short(accepted)}")
        if fix is not None:
            lines.append(f"  fix:      {fix}")
        super().__init__("\n".join(lines))


class ConfigError(SaekitError, ValueError):
    """A setting is outside what it may be."""


class UnknownNameError(SaekitError, LookupError):
    """A model, hook point, feature, label or keyword that does not exist."""


class UnknownKeywordError(UnknownNameError, TypeError):
    """A keyword argument that does not exist."""


class MismatchError(SaekitError, ValueError):
    """Two things that do not belong together: an SAE and another model, hook point or weight processing."""


class DataError(SaekitError, ValueError):
    """Data that cannot be used: an empty corpus, NaN activations, a missing column."""


class LengthUnknownError(DataError, TypeError):
    """The length of a stream. A TypeError too, which is which Python's list() expects of an iterable without a
    length."""


class FileError(SaekitError, OSError):
    """A file that is missing, truncated, altered or of another format."""


class ContextLengthError(SaekitError, ValueError):
    """Text that is longer than the model's context."""


class FolderInUseError(FileError):
    """A folder that another process or thread is writing to."""


class DiskFullError(FileError):
    """No room left; what was complete before is untouched."""


def unknown_name(kind: str, seen: object, accepted: Iterable[object], *, fix: str | None = None) -> UnknownNameError:
    """An UnknownNameError that names the nearest of the accepted names.

    >>> print(unknown_name("label", "topik", ["style", "topic"]))
    unknown label 'topik'; did you mean 'topic'?
      seen:     topik
      accepted: style, topic
      fix:      pass 'topic'
    """
    names = [str(a) for a in accepted]
    near = difflib.get_close_matches(str(seen), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    fix = fix or (f"pass {near[0]!r}" if near else "pass one of these names" if names else None)
    listed = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
    return UnknownNameError(f"unknown {kind} {str(seen)!r}{hint}", got=str(seen), accepted=listed or "none", fix=fix)


def check_feature(feature: object, d_sae: int) -> int:
    """The feature number as an int; UnknownNameError when it is no whole number from 0 to d_sae - 1.

    >>> from saekit.errors import check_feature
    >>> check_feature(3, d_sae=64)
    3
    """
    try:
        number = -1 if isinstance(feature, bool) else operator.index(feature)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if not 0 <= number < d_sae:
        raise UnknownNameError(
            f"the SAE has no feature {feature!r}",
            got=feature,
            accepted=f"a whole number from 0 to {d_sae - 1}",
            fix="check that the feature number comes from this SAE and its index",
        )
    return number


def check_count(name: str, value: object, least: int = 1, most: int | None = None) -> int:
    """A number of things as an int; ConfigError when it is no whole number from `least` to `most`.

    >>> from saekit.errors import check_count
    >>> check_count("batch_size", float("inf"))
    Traceback (most recent call last):
    saekit.errors.ConfigError: batch_size is not a whole number
      seen:     inf
      accepted: an integer of at least 1
      fix:      pass batch_size=1 or more
    """
    accepted = f"an integer of at least {least}" if most is None else f"an integer from {least} to {most}"
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is not None and least <= number and (most is None or number <= most):
        return number
    what = "is not a whole number"
    if number is not None:
        what = (
            "is too large" if number >= least else {0: "is negative", 1: "is not positive"}.get(least, "is too small")
        )
    fix: str | None = f"pass {name}={most} or less" if what == "is too large" else f"pass {name}={least} or more"
    fix = fix if name.isidentifier() else None
    raise ConfigError(f"{name} {what}", got=repr(value), accepted=accepted, fix=fix)


def check_number(
    name: str, value: object, least: float = -math.inf, most: float = math.inf, *, above: bool = False
) -> float:
    """A finite number as a float; ConfigError when it is none, or not from `least` (not itself with `above`) to `most`.

    >>> from saekit.errors import check_number
    >>> check_number("temperature", float("nan"), least=0)
    Traceback (most recent call last):
    saekit.errors.ConfigError: temperature is not a finite number
      seen:     nan
      accepted: a number of at least 0
      fix:      pass temperature=0
    """
    try:
        number = math.nan if isinstance(value, (bool, str, bytes)) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        number = math.nan
    if math.isfinite(number) and number <= most and (number > least if above else number >= least):
        return number
    known, bounds = math.isfinite(least), []
    if known:
        bounds.append(f"above {least:g}" if above else f"of at least {least:g}")
    if math.isfinite(most):
        bounds.append(f"of at most {most:g}")
    fix = f"pass {name}={1 if above or not known else least:g}" if name.isidentifier() else None
    what = "is too large" if number > most else "is negative" if least == 0 and number < 0 else "is too small"
    if not math.isfinite(number):
        what = "is not a finite number"
    accepted = " and ".join(["a number " + " and ".join(bounds)]) if bounds else "a finite number"
    raise ConfigError(f"{name} {what}", got=repr(value), accepted=accepted, fix=fix)


def check_seed(seed: object, name: str = "seed") -> int:
    """A seed that torch and numpy take, as an int; ConfigError for any other value.

    >>> from saekit.errors import check_seed
    >>> check_seed(7)
    7
    """
    return check_count(name, seed, least=0, most=2**32 - 1)


def trait_error(error: SaekitError) -> SaekitError:
    """`error` as one that is a traitlets.TraitError too: traitlets gives a trait its old value back for those alone.

    >>> from saekit.errors import ConfigError, trait_error
    >>> error = trait_error(ConfigError("page is negative", got=-1))
    >>> isinstance(error, ConfigError), [c.__name__ for c in type(error).__mro__ if c.__name__ == "TraitError"]
    (True, ['TraitError'])
    """
    return _trait_error_class(type(error))(error.what, got=error.got, accepted=error.accepted, fix=error.fix)


def _trait_error_class(kind: type[SaekitError]) -> type[SaekitError]:
    from traitlets import TraitError  # only widgets need it

    if issubclass(kind, TraitError):
        return kind
    if kind not in _TRAIT_ERRORS:
        names = {"__module__": kind.__module__, "__doc__": kind.__doc__}
        _TRAIT_ERRORS[kind] = type(kind.__name__, (kind, TraitError), names)
    return _TRAIT_ERRORS[kind]


_TRAIT_ERRORS: dict[type[SaekitError], type[SaekitError]] = {}


@contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """Turns what the operating system says about `path` into a FileError or a DiskFullError."""
    try:
        yield
    except SaekitError:
        raise
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"no space left while writing {path}",
                got=e.strerror,
                fix="free some space and run the same call again: what was complete is kept",
            ) from e
        raise FileError(f"cannot use {path}", got=e.strerror or e, fix="check the path and its permissions") from e


def _short(value: object, limit: int = 600) -> str:
    text = str(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
