"""Every exception saekit raises on purpose.

Each says four things: what was wrong, the value seen, what is accepted and how to fix it. `disk_errors` translates
errors of the operating system.
"""

from __future__ import annotations

import difflib
import errno
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
