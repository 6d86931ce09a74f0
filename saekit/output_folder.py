"""One output folder, one writer: the lock that every verb holds while it writes, and the plan that a folder belongs to.

The lock is one of the operating system on a file in the folder, so that it ends with its process, however that ends. It
is refused at once to another process or thread, with the name of the one that has it; waiting would hide a mistake.
Whoever holds it removes what killed runs have left, and nobody else does.

A plan is everything that a result depends on, as JSON values; parts of a result carry its digest.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import json
import os
import platform
import shutil
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .atomic_io import with_current_keys, write_json
from .errors import FileError, FolderInUseError, MismatchError, disk_errors
from .json_files import digest_of, read_json

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK, HOLDER = ".saekit-lock", ".saekit-holder"
"""In a folder that is being written to: the locked file, and who has locked it."""
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
"""What a file system says that has no locks."""
PLAN = "plan.json"
"""The file that says which run a folder belongs to."""


@dataclass
class _Held:
    """A lock that this process holds."""

    lock: BaseFileLock
    what: str
    process: int
    thread: int
    thread_name: str
    n_entered: int = 1


_HELD: dict[str, _Held] = {}
"""By the real path of the locked file."""
_REGISTRY = threading.Lock()


@contextmanager
def output_folder(folder: str | Path, what: str, *, leftovers: Sequence[str] = ()) -> Iterator[Path]:
    """The folder, made if need be, which nobody else writes to inside the block; `what` says in words what is written.

    FolderInUseError when another process or thread has it. A thread may enter again what it has, as a run that saves an
    SAE in its own folder does. `leftovers` are patterns of hidden names that a killed run may have left in the folder:
    whoever enters first removes them. A folder that is still empty at the end goes too, if it was made here.

    >>> from saekit.output_folder import output_folder
    >>> with output_folder(tmp_path / "out", "an index") as folder, output_folder(folder, "an SAE"):
    ...     _ = (folder / "a.txt").write_text("whole")
    >>> [p.name for p in (tmp_path / "out").iterdir()]
    ['a.txt']
    """
    folder = Path(folder).expanduser()
    with disk_errors(folder):
        made = [p for p in (folder, *folder.parents) if not p.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(folder / LOCK, folder, what, wait=False) as first:
            if first:
                remove_leftovers(folder, leftovers)
            yield folder
    finally:
        for path in made:  # those that nothing was written to
            with contextlib.suppress(OSError):
                path.rmdir()


@contextmanager
def shared_result(folder: Path, what: str) -> Iterator[None]:
    """For what several processes want and one makes, such as the default model: the others wait until it is there.

    The lock lies beside the folder, which may be replaced as a whole.
    """
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent / f"{folder.name}.lock", folder, what, wait=True):
        yield


@contextmanager
def _locked(file: Path, folder: Path, what: str, wait: bool) -> Iterator[bool]:
    """Whether it was not held by this thread before; the lock is held inside the block."""
    key = os.path.realpath(file)
    while True:
        with _REGISTRY:
            held = _HELD.get(key)
            if held is None or held.process != os.getpid():  # a child process has a copy of what its parent held
                lock = _acquired(file, folder)
                if lock is not None:
                    me = threading.current_thread()
                    held = _HELD[key] = _Held(lock, what, os.getpid(), threading.get_ident(), me.name)
                    first = True
                    break
            elif held.thread == threading.get_ident():
                held.n_entered += 1
                first = False
                break
        if not wait:
            raise _in_use(folder, file, held if held is not None and held.process == os.getpid() else None)
        time.sleep(0.05)
    holder = file.parent / HOLDER
    try:
        if first and not wait:
            _say_who(holder, what)
        yield first
    finally:
        with _REGISTRY:
            held.n_entered -= 1
            if not held.n_entered:
                del _HELD[key]
                if not wait:  # a waiting process could have opened the file: there it stays
                    for path in (holder, file):
                        with contextlib.suppress(OSError):
                            path.unlink()
                held.lock.release()


def _acquired(file: Path, folder: Path) -> BaseFileLock | None:
    """The lock, None where another process has it."""
    from filelock import FileLock, SoftFileLock, Timeout

    lock: BaseFileLock = FileLock(file, timeout=0, thread_local=False)
    with disk_errors(file):
        for _ in range(100):  # whoever had it removes the file: what was opened before then locks nothing
            file.parent.mkdir(parents=True, exist_ok=True)  # another process may have found it empty
            try:
                lock.acquire()
            except Timeout:
                soft = isinstance(lock, SoftFileLock)  # which filelock has made of it
                return _marked(file, folder) if not soft and _has_no_locks(file) else None
            except NotImplementedError:
                return _marked(file, folder)
            except OSError as e:
                if e.errno not in NO_LOCKS:
                    raise
                return _marked(file, folder)
            if _locks_the_file(lock, file):
                return lock
            lock.release()
    return None


def _has_no_locks(file: Path) -> bool:
    """Whether the file system has none, which filelock before 3.24 takes for a lock that another process has."""
    try:
        import fcntl

        with file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError) as e:
        return getattr(e, "errno", None) in NO_LOCKS
    return False


def _marked(file: Path, folder: Path) -> BaseFileLock | None:
    """What stands for a lock where the file system has none, None where another process has it."""
    from filelock import SoftFileLock, Timeout

    marker = file.with_name(f"{file.name}.soft")
    warnings.warn(
        f"the file system of {folder} has no locks: {marker.name} marks the folder as in use instead, and stays there "
        "when a process is killed",
        stacklevel=7,
    )
    lock = SoftFileLock(marker, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


def _locks_the_file(lock: BaseFileLock, file: Path) -> bool:
    """Whether what was locked is the file of that name, and not one that was removed meanwhile."""
    opened = lock._context.lock_file_fd
    if os.name == "nt" or opened is None:
        return True
    try:
        return os.path.samestat(os.fstat(opened), file.stat())
    except FileNotFoundError:
        return False


def _say_who(holder: Path, what: str) -> None:
    facts = {"what": what, "process": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with contextlib.suppress(OSError, KeyError):
        facts["user"] = getpass.getuser()
    with contextlib.suppress(OSError):  # it only makes an error clearer
        holder.write_text(json.dumps(facts), "utf8")


def _in_use(folder: Path, file: Path, thread: _Held | None) -> FolderInUseError:
    """The error for a folder that another process, or a thread of this one, writes to."""
    fix = "wait until it has ended and call again, or pass another folder"
    if thread is not None:
        return FolderInUseError(
            f"another thread of this process is writing {thread.what} in {folder}",
            got=f"thread {thread.thread_name!r}",
            accepted="one writer at a time",
            fix=fix,
        )
    try:
        facts = json.loads((file.parent / HOLDER).read_text("utf8"))
        what = f"is writing {facts['what']} in"
        who = f"process {facts['process']} on {facts['host']}"
        seen = f"{who}, since {facts['since']}" + (f", of user {facts['user']}" if "user" in facts else "")
        fix += f", or end process {facts['process']} on {facts['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        what, seen = "is using", f"{file.name} is locked"
    soft = file.with_name(f"{file.name}.soft")
    if soft.exists():
        fix += f"; if it was killed, delete {soft}"
    return FolderInUseError(f"another process {what} {folder}", got=seen, accepted="one writer at a time", fix=fix)


def remove_leftovers(folder: Path, patterns: Sequence[str]) -> None:
    """Removes what killed runs left in a folder that this process has locked; links go, not what they lead to."""
    for path in (p for pattern in patterns for p in folder.glob(pattern)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def parts_of(*names: str) -> list[str]:
    """Patterns of the temporary files that `atomic_write` makes for files of these names or patterns.

    >>> from saekit.output_folder import parts_of
    >>> parts_of("cfg.json")
    ['.cfg.json.*.part']
    """
    return [f".{name}.*.part" for name in names]


def digest_of_plan(plan: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of everything that a result depends on; the order of its keys plays no part.

    >>> from saekit.output_folder import digest_of_plan
    >>> digest_of_plan({"seed": 0, "k": 4}) == digest_of_plan({"k": 4, "seed": 0})
    True
    """
    return digest_of(plan)


def claim_folder(folder: str | Path, plan: Mapping[str, Any], what: str, *, in_use: bool = True) -> None:
    """Makes `folder` the output of the run that `plan` describes; MismatchError when it belongs to another run.

    `what` is what the folder holds, in the error's words. in_use=False lets go of what another run planned there.

    >>> from saekit.output_folder import claim_folder
    >>> claim_folder(tmp_path / "out", {"seed": 0}, "a study")
    >>> claim_folder(tmp_path / "out", {"seed": 1}, "a study")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    saekit.errors.MismatchError: ...out holds a study of another seed
    ...
    """
    record = Path(folder) / PLAN
    if in_use and record.is_file():
        check_same_plan(folder, with_current_keys(read_json(record)), plan, what)
    else:
        write_json(record, plan)


def check_same_plan(folder: str | Path, found: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> None:
    """MismatchError that names what differs between the run a folder belongs to and the one asked for."""
    wanted = json.loads(json.dumps(wanted))
    differs = [key for key in wanted if found.get(key) != wanted[key]]
    if differs:
        raise MismatchError(
            f"{folder} holds {what} of another {', '.join(d.replace('_', ' ') for d in differs)}",
            got="; ".join(f"{d}: {wanted[d]}" for d in differs),
            accepted="; ".join(f"{d}: {found.get(d)}" for d in differs),
            fix="pass another folder as out=, or delete this one if it is no longer needed",
        )


def check_part(digest: str | None, wanted: str, file: Path) -> None:
    """FileError for a part of another plan than that of its folder; parts of earlier versions carry no digest."""
    if digest is not None and digest != wanted:
        raise FileError(
            f"{file} belongs to another run than the rest of its folder",
            got=f"plan {digest}",
            accepted=f"plan {wanted}",
            fix="delete the folder and run the same call again, or pass another one",
        )
