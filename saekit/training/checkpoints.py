"""Checkpoints of a run: complete or not there, noticed when damaged, the last two kept.

One folder per checkpoint: state.pt (all that resuming bit for bit needs), an SAE folder per SAE as anyone may use it
(normalisation folded in), and manifest.json with the hash of state.pt and the digest of the run's plan. The folder is
written under another name and renamed when all of it is on disk.
"""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired

import torch
from typing_extensions import TypedDict

from ..atomic_io import atomic_write, sha256, write_json
from ..errors import FileError, MismatchError, disk_errors
from ..json_files import Natural, Sha256, damaged, read_sealed, sealed
from ..output_folder import remove_leftovers
from ..sae import SAE

N_KEPT = 2
MANIFEST = "manifest.json"
CHECKPOINTS = ("step-*", ".step-*.part")
"""Patterns of the folders of checkpoints, whole and half-written."""
STATE = {"trainers", "batches"}
"""What a state holds beside its step."""


class Manifest(TypedDict):
    """manifest.json of a checkpoint."""

    step: Natural
    sha256: Sha256
    plan: NotRequired[str]


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], saes: Mapping[str, SAE], plan: str) -> Path:
    """Writes the checkpoint of `step` and returns its folder; then removes all but the last two.

    `plan` is the digest of everything that the run depends on. The caller holds the lock of the run's folder.
    """
    final = folder / f"step-{step:08d}"
    part = folder / f".{final.name}.part"
    with disk_errors(final):
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            with atomic_write(part / "state.pt") as file:
                _save(dict(state), file)
            for name, sae in saes.items():
                sae.save(part / name)
            mark = {"step": step, "plan": plan, "sha256": sha256(part / "state.pt")}
            write_json(part / MANIFEST, sealed(mark))
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        for old in _folders(folder)[N_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
    return final


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The state of the newest whole checkpoint, or None. A damaged one is passed over with a warning."""
    for candidate in _folders(folder):
        try:
            manifest = read_sealed(candidate / MANIFEST, Manifest)
            if manifest["sha256"] != sha256(candidate / "state.pt"):
                raise FileError(f"{candidate / 'state.pt'} is truncated or altered")
            with damaged(candidate / "state.pt"):
                state: dict[str, Any] = torch.load(candidate / "state.pt", map_location="cpu", weights_only=True)
                if state["step"] != manifest["step"] or not state.keys() >= STATE:
                    raise ValueError(f"step {state['step']} with {', '.join(state)}")
        except FileError as e:
            first_line = str(e).splitlines()[0]
            warnings.warn(f"checkpoint {candidate.name} is damaged ({first_line}); using the one before", stacklevel=2)
            continue
        return state
    return None


def has_checkpoints(folder: Path) -> bool:
    """Whether there are any, whole or half-written."""
    return any(path for pattern in CHECKPOINTS for path in folder.glob(pattern))


def remove_checkpoints(folder: Path) -> None:
    """Removes the checkpoints of a run, whole and half-written, and their folder, unless that is a link or holds other
    files. The caller holds the lock of the run's folder."""
    remove_leftovers(folder, CHECKPOINTS)
    with contextlib.suppress(OSError):
        folder.rmdir()


def check_link(folder: Path, plan: str) -> None:
    """MismatchError where `folder` is a link to checkpoints of another run, which would be removed in time."""
    if not folder.is_symlink():
        return
    for step in _folders(folder):
        try:
            found = read_sealed(step / MANIFEST, Manifest).get("plan")
        except FileError:
            found = None
        if found != plan:
            raise MismatchError(
                f"{folder} is a link to a folder with checkpoints of another run",
                got=f"{step.resolve()}, of plan {found or 'unknown'}",
                accepted=f"checkpoints of this run, plan {plan}, or none",
                fix="let the link lead to an empty folder, or remove it",
            )


def _folders(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def _save(state: dict[str, Any], file: Path) -> None:
    """torch.save, whose own error about a half-written archive gives way to the operating system's that caused it."""
    try:
        with file.open("wb") as f:
            torch.save(state, f)
    except RuntimeError as e:
        cause = e.__cause__ or e.__context__
        raise (cause if isinstance(cause, OSError) else e) from None
