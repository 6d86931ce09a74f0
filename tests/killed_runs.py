"""A run in another process that is killed at a chosen moment, for tests of what is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable


def run_until(script: str, reached: Callable[[], bool], *, seconds: float = 240) -> None:
    """Runs a script and kills it, without a word, as soon as `reached()`."""
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        deadline = time.monotonic() + seconds
        while not reached():
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < deadline, "the moment to kill it did not come"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
