"""What the kernels' self-check found on a device, and how it is kept in the cache folder.

The file holds a digest of its content: a damaged one counts as none, and the check runs again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import TypedDict

from ...atomic_io import write_json
from ...errors import FileError
from ...json_files import Finite, checked, read_sealed, sealed
from .device_key import DeviceKey

if TYPE_CHECKING:
    import pandas as pd

Kept = TypeVar("Kept")
NOT_KEPT = ("out of memory", "busy or unavailable", "all cuda-capable devices are busy", "no space left")
"""What says more about the moment than about the device: such an outcome is not kept."""


@dataclass(frozen=True, kw_only=True)
class KernelCheck:
    """One kernel on one input, against its reference on the CPU."""

    kernel: str
    case: str
    """The type of its inputs and their sizes."""
    difference: float | None
    """The largest difference from the reference, as a fraction of its largest value; None where there is no number."""
    tolerance: float
    tiles: str = ""
    """The label of the tiles that were tried, for kernels that have a choice of them."""
    error: str = ""
    """What it raised, or how its result is wrong beyond a difference."""

    @property
    def passed(self) -> bool:
        """Whether the result is the reference's."""
        return not self.error and self.difference is not None and self.difference <= self.tolerance

    @property
    def reason(self) -> str:
        """In words, what is wrong; empty where nothing is."""
        if self.passed:
            return ""
        where = f"{self.kernel} ({self.case}{', tiles ' + self.tiles if self.tiles else ''})"
        if self.error:
            return f"{where}: {self.error}"
        if self.difference is None:
            return f"{where} gives numbers that are not finite"
        return f"{where} differs from the reference by {self.difference:.2g}, tolerance {self.tolerance:.2g}"


@dataclass(frozen=True, kw_only=True, repr=False)
class SelfCheck:
    """Whether the Triton kernels give the references' results on a device. Truth value: whether they are used."""

    key: DeviceKey
    checks: tuple[KernelCheck, ...] = ()
    error: str = ""
    """Why the check could not be finished; empty where it was."""
    seconds: float = 0.0
    """How long it took, compiling included."""

    @property
    def passed(self) -> bool:
        """Whether every kernel gives the reference's result, and those with a choice of tiles do for one of them."""
        return not self.reason

    @property
    def tiles(self) -> frozenset[str]:
        """Labels of the tiles with which every kernel that has them passed."""
        tried = {c.tiles for c in self.checks if c.tiles}
        return frozenset(tried - {c.tiles for c in self.checks if not c.passed})

    @property
    def reason(self) -> str:
        """The first thing that went wrong, in words; empty where the kernels are used."""
        if self.error:
            return self.error
        wrong = [c for c in self.checks if not c.passed and not c.tiles]
        if not wrong and self.checks and not self.tiles:
            wrong = [c for c in self.checks if not c.passed]
        if not self.checks:
            return "nothing was checked"
        more = f" (and {len(wrong) - 1} other checks failed)" if len(wrong) > 1 else ""
        return wrong[0].reason + more if wrong else ""

    @property
    def lasts(self) -> bool:
        """Whether the outcome would be the same another time: not where memory was short or the device taken."""
        said = " ".join([self.error, *(c.error for c in self.checks)]).lower()
        return not any(words in said for words in NOT_KEPT)

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        rows = self.by_kernel()
        head = f"SelfCheck on {self.key.device}: " + ("passed" if self.passed else f"not passed, {self.reason}")
        lines = [
            f"  {name:24} {'ok' if all(c.passed for c in found) else 'FAILED':6} {_largest(found):>9} of "
            f"{min(c.tolerance for c in found):.0e}, {len(found)} cases"
            for name, found in rows.items()
        ]
        return "\n".join([head, *lines])

    def by_kernel(self) -> dict[str, list[KernelCheck]]:
        """The checks of each kernel, and of each with one choice of tiles."""
        out: dict[str, list[KernelCheck]] = {}
        for check in self.checks:
            out.setdefault(f"{check.kernel} {check.tiles}".strip(), []).append(check)
        return out

    def to_frame(self) -> pd.DataFrame:
        """One row a check: kernel, case, tiles, difference, tolerance, passed, error."""
        import pandas as pd

        return pd.DataFrame([asdict(c) | {"passed": c.passed} for c in self.checks])


def _largest(checks: Sequence[KernelCheck]) -> str:
    """The largest difference among some checks, as text."""
    found = [c.difference for c in checks]
    return "none" if not found or None in found else f"{max(d for d in found if d is not None):.1e}"


class StoredCheck(TypedDict):
    """A KernelCheck as JSON."""

    kernel: str
    case: str
    difference: Finite | None
    tolerance: Finite
    tiles: str
    error: str


class StoredOutcome(TypedDict):
    """A SelfCheck as JSON."""

    key: dict[str, str]
    checks: list[StoredCheck]
    error: str
    seconds: Finite
    checksum: str


def check_of(value: Any, where: object) -> KernelCheck:
    """A check from its JSON; FileError for anything else."""
    return KernelCheck(**checked(value, StoredCheck, where))


def outcome_of(value: Mapping[str, Any]) -> SelfCheck:
    """A self-check from its JSON; TypeError where it has another version's key."""
    return SelfCheck(
        key=DeviceKey(**value["key"]),
        checks=tuple(KernelCheck(**c) for c in value["checks"]),
        error=value["error"],
        seconds=value["seconds"],
    )


def keep(path: Path, content: Mapping[str, Any]) -> None:
    """Writes what is worth keeping about a device, with its digest."""
    write_json(path, sealed(content))


def kept(path: Path, schema: Any, read: Callable[[Any], Kept]) -> Kept | None:
    """What an earlier process kept; None where there is nothing, or it is damaged: it is made again then."""
    try:
        return read(read_sealed(path, schema))
    except (FileError, TypeError):
        return None
