"""An interrupt of `panel.run(wait=True)` is raised once nothing runs any more and the model is as it was."""

from __future__ import annotations

import _thread
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from saekit.widgets import SteeringPanel
from saekit.widgets.worker import Worker

TWO = [{"name": "unsteered"}, {"name": "steered", "features": [{"feature": 2, "strength": 0.4}]}]


class Steps:
    """A writer whose steps take a while, and which says whether one is being made."""

    def __init__(self) -> None:
        self.inside = False

    def __call__(self, request: Any, stop: Callable[[], bool]) -> Iterator[Any]:
        for n in range(request.max_new_tokens):
            if stop():
                return
            self.inside = True
            time.sleep(0.01)
            self.inside = False
            yield [SimpleNamespace(text=f"{n} ") for _ in request.conditions]


@pytest.mark.slow
def test_thirty_interrupts_of_thirty_wait_for_the_end_of_the_run() -> None:
    steps = Steps()
    panel = SteeringPanel(steps, n_features=16, conditions=TWO, prompt="hi", max_new_tokens=10_000, chat=True)
    for n in range(30):
        timer = threading.Timer(0.002 * n, _thread.interrupt_main)
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            panel.run(wait=True)
        timer.join()
        inside, text = steps.inside, panel.texts
        assert not panel.running and not inside
        assert [thread for thread in threading.enumerate() if thread.name == "saekit widget"] in (
            [],
            [panel._worker._thread],
        )
        time.sleep(0.02)
        assert panel.texts == text, "nothing is written any more"
    panel.max_new_tokens = 2
    assert panel.run(wait=True).texts == {"unsteered": "0 1 ", "steered": "0 1 "}
    assert panel.run().stop(wait=True) is None and not panel.running


def test_an_interrupted_stop_waits_too() -> None:
    worker, ended = Worker(), []

    def run() -> None:
        while not worker.stopped():
            time.sleep(0.01)
        time.sleep(0.1)
        ended.append(1)

    worker.start(run, wait=False)
    worker.stop()
    threading.Timer(0.02, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        worker.wait()
    assert ended == [1]


def test_what_watches_a_run_may_stop_it_and_begin_another() -> None:
    panel = SteeringPanel(Steps(), n_features=16, conditions=TWO, prompt="hi", max_new_tokens=1000, chat=True)
    again: list[int] = []

    def watch(change: Any) -> None:
        panel.stop(wait=True)
        if change.name == "running" and not change.new and not again:
            again.append(1)
            panel.run()

    panel.observe(watch, names=["exchanges", "running"])
    panel.run(wait=True)
    assert again == [1]
    panel.stop(wait=True)
    assert not panel.running


SCRIPT = """
import ctypes, os, random, signal, sys, threading, time
sys.path[:0] = [REPOSITORY]
from conftest import tiny_model, tiny_sae
import saekit as sk

model = tiny_model()
panel = sk.steer(model, tiny_sae(model), 3, prompt="the cat", chat=False, max_new_tokens=50)
panel.run(wait=True)
plain = panel.texts
kinds = ("_forward_hooks", "_forward_pre_hooks", "fwd_hooks", "bwd_hooks")
hooks = lambda: sum(len(getattr(m, k, ())) for m in model.bridge.modules() for k in kinds)
before, interrupted = hooks(), 0
main = threading.main_thread().ident
for n in range(30):
    def interrupt():
        time.sleep(0.002 * n)
        if n % 2:
            signal.pthread_kill(main, signal.SIGINT)
        else:  # not while the thread begins, which Python 3.11 would take for the main thread
            while not any(t.is_alive() for t in threading.enumerate() if t.name == "saekit widget"):
                time.sleep(0.001)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), ctypes.py_object(KeyboardInterrupt))
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        panel.run(wait=True)
        thread.join()
        time.sleep(0.1)
    except KeyboardInterrupt:
        interrupted += 1
        assert not panel.running and panel._worker._ended.is_set()
        assert hooks() == before
    thread.join()
assert panel.run(wait=True).texts == plain, "the model is as it was"
print("interrupted", interrupted)
"""


@pytest.mark.slow
def test_interrupts_leave_no_hook_on_the_model() -> None:
    repository = str(Path(__file__).resolve().parents[1])
    script = SCRIPT.replace("REPOSITORY", repr(repository))
    env = os.environ | {"PYTHONPATH": repository}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["interrupted", "30"]
