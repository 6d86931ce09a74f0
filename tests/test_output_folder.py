"""One writer for each output folder: locks between processes and threads, leftovers, and file systems without locks."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from saekit.errors import FileError, FolderInUseError, MismatchError
from saekit.output_folder import (
    HOLDER,
    LOCK,
    check_part,
    check_same_plan,
    digest_of_plan,
    output_folder,
    parts_of,
    remove_leftovers,
    shared_result,
)

HOLD = """
import sys, time
from pathlib import Path
from saekit.output_folder import output_folder
with output_folder(sys.argv[1], "a steering study"):
    Path(sys.argv[1], "held").touch()
    time.sleep(60)
"""


@contextmanager
def another_process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock of the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)])
    try:
        deadline = time.monotonic() + 30
        while not (folder / "held").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_second_process_is_refused_at_once_and_told_who_has_the_folder(tmp_path: Path) -> None:
    with another_process(tmp_path / "out") as process:
        before = time.monotonic()
        with (
            pytest.raises(FolderInUseError, match="another process is writing a steering study in .*out") as e,
            output_folder(tmp_path / "out", "an index"),
        ):
            pass
        assert time.monotonic() - before < 1
        assert f"process {process.pid} on {os.uname().nodename}, since 20" in str(e.value)
        assert "pass another folder" in str(e.value)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with output_folder(tmp_path / "out", "an index"):  # the lock ended with its process
            assert (tmp_path / "out" / LOCK).exists()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["held"]


def test_a_thread_enters_again_what_it_has_and_another_thread_is_refused(tmp_path: Path) -> None:
    seen: list[Any] = []

    def enter() -> None:
        try:
            with output_folder(tmp_path, "an SAE"):
                seen.append("entered")
        except FolderInUseError as e:
            seen.append(str(e))

    with output_folder(tmp_path, "a training run"):
        with output_folder(tmp_path / "." / ".." / tmp_path.name, "an SAE"):
            pass
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        assert "another thread of this process is writing a training run" in seen[0]
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen[1] == "entered" and list(tmp_path.iterdir()) == []


def test_the_lock_ends_with_an_error_and_a_folder_that_stayed_empty_goes(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), output_folder(tmp_path / "a" / "b", "an index"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with output_folder(tmp_path / "a" / "b", "an index") as folder:
        (folder / "kept").touch()
    assert (tmp_path / "a" / "b" / "kept").exists()


def count(folder: str, n: int) -> None:
    for _ in range(n):
        while True:
            try:
                with output_folder(folder, "a number"):
                    file = Path(folder, "n")
                    value = int(file.read_text()) if file.exists() else 0
                    time.sleep(0.0005)
                    file.write_text(str(value + 1))
                break
            except FolderInUseError:
                time.sleep(0.0005)


@pytest.mark.slow
def test_no_two_processes_are_ever_inside_although_the_locked_file_comes_and_goes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=count, args=(str(tmp_path / "out"), 200)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "out" / "n").read_text() == "600"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["n"]


def test_leftovers_are_removed_by_who_enters_first_and_by_nobody_else(tmp_path: Path) -> None:
    ours, theirs = tmp_path / ".cfg.json.0123abcd.part", tmp_path / ".page.html.0123abcd.part"
    for path in (ours, theirs):
        path.touch()
    with output_folder(tmp_path, "an SAE", leftovers=parts_of("cfg.json")):
        assert not ours.exists() and theirs.exists()
        ours.touch()
        with output_folder(tmp_path, "an SAE", leftovers=parts_of("cfg.json")):
            assert ours.exists()
    with (
        another_process(tmp_path),
        pytest.raises(FolderInUseError),
        output_folder(tmp_path, "an SAE", leftovers=parts_of("cfg.json")),
    ):
        pass
    assert ours.exists()


def test_what_a_link_leads_to_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "notes.txt").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".a.part").symlink_to(tmp_path / "elsewhere")
    remove_leftovers(tmp_path / "out", [".*.part"])
    assert list((tmp_path / "out").iterdir()) == [] and (tmp_path / "elsewhere" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named_and_still_has_one_writer(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning), output_folder(tmp_path, "an index"):
        entered = []
        thread = threading.Thread(target=lambda: entered.append(_refused(tmp_path)))
        thread.start()
        thread.join()
        assert entered == [True]
        script = HOLD.replace("import sys, time", "import errno, fcntl, sys, time\n" + _NO_FLOCK.format(code=code))
        other = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True)
        assert "FolderInUseError: another process is writing an index" in other.stderr, other.stderr
    assert list(tmp_path.iterdir()) == []


_NO_FLOCK = """
def refuse(*_):
    raise OSError({code}, "no locks here")
fcntl.flock = refuse
"""


def _refused(folder: Path) -> bool:
    try:
        with output_folder(folder, "an SAE"):
            return False
    except FolderInUseError:
        return True


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"cannot use .*file"), output_folder(tmp_path / "file", "an index"):
        pass


def test_who_wants_a_shared_result_waits_for_it(tmp_path: Path) -> None:
    order: list[str] = []

    def later() -> None:
        with shared_result(tmp_path / "model", "a model"):
            order.append("second")

    with shared_result(tmp_path / "model", "a model"):
        thread = threading.Thread(target=later)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_plans_are_compared_as_json_and_have_one_digest(tmp_path: Path) -> None:
    plan = {"hooks": ("a", "b"), "seed": 0, "token_filter": None}
    assert digest_of_plan(plan) == digest_of_plan({"token_filter": None, "seed": 0, "hooks": ["a", "b"]})
    assert digest_of_plan(plan) != digest_of_plan({**plan, "seed": 1})
    check_same_plan(tmp_path, {"hooks": ["a", "b"], "seed": 0, "token_filter": None}, plan, "an index")
    with pytest.raises(MismatchError, match="an index of another token filter"):
        check_same_plan(
            tmp_path, {**plan, "hooks": ["a", "b"]}, {**plan, "token_filter": {"max_norm": 1.0}}, "an index"
        )
    check_part(None, "a", tmp_path)
    with pytest.raises(FileError, match="belongs to another run"):
        check_part("b", "a", tmp_path)


def test_the_holder_is_named_only_where_the_file_is_whole(tmp_path: Path) -> None:
    with another_process(tmp_path):
        (tmp_path / HOLDER).write_text('{"what": "a')
        with pytest.raises(FolderInUseError, match="another process is using"), output_folder(tmp_path, "an SAE"):
            pass
