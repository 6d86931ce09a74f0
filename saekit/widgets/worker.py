"""A thread that does one run at a time for a widget, and can be stopped and waited for.

Waiting is for an event that the run sets at its end, not for the thread: an interrupt makes Thread.join take a running
thread for one that has ended (Python 3.11), and a run that goes on in the background keeps its hooks on the model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

SECONDS_BETWEEN_LOOKS = 0.05
"""Waiting is done in pieces of this length, which an interrupt ends on every system."""
SECONDS_TO_BEGIN = 2.0
"""After which a thread whose start was interrupted is taken for one that never began."""


class Worker:
    """Runs a function in the background, one at a time. The function looks at `stopped` and ends soon when it is true.

    >>> from saekit.widgets.worker import Worker
    >>> worker, done = Worker(), []
    >>> worker.start(lambda: done.append(worker.stopped()), wait=True)
    >>> done
    [False]
    """

    def __init__(self) -> None:
        self._stop, self._ended = threading.Event(), threading.Event()
        self._ended.set()
        self._thread: threading.Thread | None = None

    def stopped(self) -> bool:
        """Whether the run was told to end."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Tells the run to end."""
        self._stop.set()

    def start(self, run: Callable[[], None], *, wait: bool) -> None:
        """Begins `run` once nothing else runs; with `wait`, returns at its end.

        An interrupt stops the run, and is raised once it has ended.
        """
        self.wait()
        began, ended = threading.Event(), threading.Event()
        self._stop, self._ended = threading.Event(), ended

        def work() -> None:
            began.set()
            try:
                run()
            finally:
                ended.set()

        self._thread = threading.Thread(target=work, name="saekit widget", daemon=True)
        try:
            self._thread.start()
            if wait:
                self.wait()
        except KeyboardInterrupt:
            self._stop.set()
            if began.wait(SECONDS_TO_BEGIN):
                self.wait()
            ended.set()
            raise

    def wait(self) -> None:
        """Returns once nothing runs. An interrupt stops the run, and is raised once it has ended."""
        if threading.current_thread() is self._thread:  # asked for by what watches the run, inside it
            return
        interrupt, ended = None, self._ended
        while True:
            try:
                while not ended.wait(SECONDS_BETWEEN_LOOKS):
                    pass
                break
            except KeyboardInterrupt as e:
                self._stop.set()
                interrupt = e
        if interrupt is not None:
            raise interrupt
