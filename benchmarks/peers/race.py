"""Drives one worker process per library in turns: only one computes at a time, and noise hits all alike."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from .environments import PEERS, NotInstalled, environment

WORKER = Path(__file__).with_name("worker.py")
PAUSE = 0.05  # seconds between turns: threads that wait for more work spin for a while
WARM_UP = 2
VARIANTS = {"saelens": ("", "sparse"), "dictionary_learning": ("",), "sparsify": ("", "adam")}
ON_CUDA = {"saelens": ("fast",)}


class Gone(Exception):  # noqa: N818 - said in the table, not an error of ours
    """Why a library could not take part."""


class Worker:
    """A library in a process of its own, as worker.py runs it."""

    def __init__(self, python: str | Path, case: dict[str, Any]) -> None:
        self.case = case
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close
        self._process = subprocess.Popen(
            [str(python), "-W", "ignore", str(WORKER), json.dumps(case)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            self.versions = self._answer()
        except BaseException:
            self.close()
            raise

    def product(self, n: int = 1) -> float:
        """Milliseconds of one x @ W_enc, on average of n."""
        return float(self._ask({"do": "product", "n": n})["product_ms"])

    def step(self, n: int = 1) -> float:
        """Milliseconds of one training step, on average of n."""
        return float(self._ask({"do": "step", "n": n})["step_ms"])

    def peak_bytes(self) -> int:
        """The most that was held at once during a step, beyond what was held before the SAE was made."""
        return int(self._ask({"do": "peak"})["peak_bytes"])

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # the worker's loop ends with its orders
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            print(json.dumps(order), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise Gone(self._reason()) from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Gone(self._reason())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _reason(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode("utf8", "replace")
        errors = re.findall(r"^\w[\w.]*(?:Error|Exception)\b.*$", said, re.MULTILINE)
        return (errors or said.splitlines()[-1:] or [f"it ended with exit code {code}"])[-1][:300]


def race(case: dict[str, Any], folder: Path, n_rounds: int) -> list[dict[str, Any]]:
    """A row per library, ours first: milliseconds of the product and of the step, or the reason why there are none."""
    rows: list[dict[str, Any]] = []
    workers: dict[int, Worker] = {}
    times: dict[int, tuple[list[float], list[float]]] = {}
    n = 10 if case["device"] == "cuda" else 1
    try:
        for library, variant, python in _field(folder, case["device"]):
            row: dict[str, Any] = {"library": f"{library}, {variant}" if variant else library}
            rows.append(row)
            try:
                if isinstance(python, NotInstalled):
                    raise Gone(str(python))
                worker = Worker(python, {**case, "library": library, "variant": variant})
            except Gone as e:
                row["reason"] = str(e)
            else:
                row |= worker.versions
                workers[len(rows) - 1], times[len(rows) - 1] = worker, ([], [])
        for round_ in range(n_rounds + WARM_UP):
            for i, worker in workers.items():
                if "reason" in rows[i]:
                    continue
                try:
                    took = worker.product(n), worker.step(n)
                except Gone as e:
                    rows[i]["reason"] = str(e)
                    continue
                time.sleep(PAUSE)
                if round_ >= WARM_UP:
                    for kept, ms in zip(times[i], took, strict=True):
                        kept.append(ms)
        for i, worker in workers.items():
            if "reason" not in rows[i]:
                rows[i] |= summary(*times[i])
                rows[i]["peak_mb"] = round(worker.peak_bytes() / 1e6)
    finally:
        for worker in workers.values():
            worker.close()
    return rows


def summary(product: Sequence[float], step: Sequence[float]) -> dict[str, float]:
    """Fastest and median of both, and the step as a multiple of the product by each."""
    return {
        "product_ms": round(min(product), 2),
        "step_ms": round(min(step), 2),
        "ratio": round(min(step) / min(product), 2),
        "product_median_ms": round(median(product), 2),
        "step_median_ms": round(median(step), 2),
        "ratio_median": round(median(step) / median(product), 2),
    }


def _field(folder: Path, device: str) -> list[tuple[str, str, Path | NotInstalled]]:
    """Library, variant and interpreter, or why there is none, of all who take part."""
    out: list[tuple[str, str, Path | NotInstalled]] = [("saekit", "", Path(sys.executable))]
    for peer in PEERS:
        try:
            python: Path | NotInstalled = environment(peer, folder)
        except NotInstalled as e:
            python = e
        variants = VARIANTS[peer.library] + (ON_CUDA.get(peer.library, ()) if device == "cuda" else ())
        out += [(peer.library, variant, python) for variant in variants]
    return out
