"""Files of one folder that replace others together: after a kill at any moment there are all the old ones or all new.

The new files are written into a hidden folder, the one that describes the others last. From then on they are the valid
ones: readers find them there (`place`), and whoever writes next moves those that have not been moved. Until then nobody
looks at what lies there.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...atomic_io import atomic_write, sync_folder

NEW = ".new"
"""The hidden folder."""


def place(folder: Path, name: str, description: str) -> Path:
    """Where the valid file of that name lies, or would lie; `description` names the file that is written last."""
    new = folder / NEW
    return new / name if (new / description).is_file() and (new / name).is_file() else folder / name


def replace_together(folder: Path, files: Mapping[str, bytes], optional: Sequence[str]) -> None:
    """Writes `files`, the last of which describes the others; those of `optional` that are not among them are removed.

    The first of the files is one that is always there. The caller holds the lock of the folder.
    """
    names = list(files)
    settle(folder, names[0], optional, names[-1])
    (folder / NEW).mkdir()
    try:
        for name, content in files.items():
            with atomic_write(folder / NEW / name) as part:
                write(part, content)
    except BaseException:
        if not (folder / NEW / names[-1]).is_file():
            shutil.rmtree(folder / NEW, ignore_errors=True)
        raise
    settle(folder, names[0], optional, names[-1])


def settle(folder: Path, first: str, optional: Sequence[str], description: str) -> None:
    """Moves the new files to their places, those as well that a kill has left; files that are not complete go.

    The caller holds the lock of the folder.
    """
    new = folder / NEW
    if not (new / description).is_file():
        if new.is_dir() and not new.is_symlink():
            shutil.rmtree(new, ignore_errors=True)
        return
    if not (folder / description).is_symlink():  # without it other programs do not read files of two times
        _keep_mode(new / description, folder / description)
        (folder / description).unlink(missing_ok=True)
    if (new / first).is_file():  # moved before the others: none of them was yet
        for name in optional:
            if not (new / name).is_file():
                (folder / name).unlink(missing_ok=True)
    for name in (first, *optional, description):
        if (new / name).is_file():
            _move(new / name, folder / name)
    sync_folder(folder)
    shutil.rmtree(new, ignore_errors=True)


def write(path: Path, content: bytes) -> None:
    """The bytes into a file."""
    path.write_bytes(content)


def _move(new: Path, target: Path) -> None:
    """Puts a whole file in its place: through a link, and with the mode of the one that lies there."""
    if target.is_symlink():
        with atomic_write(target) as part:
            shutil.copyfile(new, part)
        new.unlink()
        return
    _keep_mode(new, target)
    new.replace(target)


def _keep_mode(new: Path, target: Path) -> None:
    if target.exists():
        new.chmod(stat.S_IMODE(target.stat().st_mode))
