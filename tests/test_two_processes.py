"""Two processes and one output folder: every verb that writes one is refused while another process writes there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import saekit as sk
from conftest import HOOK, tiny_sae
from saekit.errors import FolderInUseError
from saekit.output_folder import output_folder

ROOT = Path(__file__).parents[1]


def train(model: Any, corpus: Any, out: Path) -> Any:
    config = sk.TrainConfig(n_tokens=128, batch_size=64, context_size=16, buffer_tokens=256)
    sae = sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4)
    return sk.train(model, corpus, hook_name=HOOK, sae=sae, config=config, out=out, progress=False)


def cache(model: Any, corpus: Any, out: Path) -> Any:
    return sk.cache_activations(model, corpus, HOOK, out, length=16, progress=False)


def index(model: Any, corpus: Any, out: Path) -> Any:
    return sk.build_index(model, tiny_sae(model), corpus, out=out, length=32, progress=False)


def study(model: Any, corpus: Any, out: Path) -> Any:
    concept = sk.Concept.regex("a")
    settings: dict[str, Any] = {"choose": (), "controls": 0, "max_new_tokens": 1, "progress": False}
    return sk.dose_response(model, tiny_sae(model), 3, ["the cat"], concept, [0.5], out=out, **settings)


def scaling(model: Any, corpus: Any, out: Path) -> Any:
    truth = sk.synthetic.independent(d_model=16, n_features=64, n_active=3)
    settings: dict[str, Any] = {"config": sk.TrainConfig(n_tokens=128, batch_size=64), "budgets": (128,)}
    settings |= {"widths": (8,), "sparsities": (3,), "n_held_out": 500, "progress": False}
    return sk.scaling_study(None, truth.batches, out=out, **settings)


def save(model: Any, corpus: Any, out: Path) -> Any:
    return tiny_sae(model).save(out)


def windows(model: Any, corpus: Any, out: Path) -> Any:
    return sk.tokenize(corpus, model, length=16).save(out)


VERBS: list[Callable[..., Any]] = [train, cache, index, study, scaling, save, windows]
HOLD = """
import sys, time
from saekit.output_folder import output_folder
for line in sys.stdin:
    with output_folder(line.strip(), "an index"):
        print("held", flush=True)
        sys.stdin.readline()
    print("free", flush=True)
"""


class Other:
    """Another process, which holds the lock of whatever folder it is told."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def told(self, line: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    @contextmanager
    def holding(self, folder: Path) -> Iterator[None]:
        assert self.told(str(folder)) == "held"
        yield
        assert self.told("let go") == "free"


@pytest.fixture(scope="module")
def other() -> Iterator[Other]:
    made = Other()
    yield made
    made.process.kill()
    made.process.wait()


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_every_verb_is_refused_while_another_process_writes_there(
    verb: Callable[..., Any], model: Any, corpus: Any, other: Other, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with other.holding(out):
        before = sorted(p.name for p in out.iterdir())
        with pytest.raises(FolderInUseError, match="another process is writing an index in .*out") as e:
            verb(model, corpus, out)
        assert f"process {other.process.pid} on" in str(e.value)
        assert sorted(p.name for p in out.iterdir()) == before, "nothing was touched"
    verb(model, corpus, out)
    assert not [p.name for p in out.rglob("*") if p.name[0] == "."], "no lock and no leftover stays"


@pytest.mark.parametrize("verb", [train, cache, index], ids=lambda verb: verb.__name__)
def test_a_finished_result_is_opened_by_many_at_once(
    verb: Callable[..., Any], model: Any, corpus: Any, other: Other, tmp_path: Path
) -> None:
    verb(model, corpus, tmp_path)
    with other.holding(tmp_path):
        assert verb(model, corpus, tmp_path) is not None
    for path in (*tmp_path.rglob("*"), tmp_path):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert verb(model, corpus, tmp_path) is not None
    finally:
        tmp_path.chmod(0o755)


def test_two_threads_of_one_process_do_not_train_in_one_folder(model: Any, corpus: Any, tmp_path: Path) -> None:
    seen: list[str] = []

    def run() -> None:
        try:
            train(model, corpus, tmp_path)
        except FolderInUseError as e:
            seen.append(e.what)

    with output_folder(tmp_path, "a training run"):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert seen == [f"another thread of this process is writing a training run in {tmp_path}"]


BUILD = """
import json, sys
sys.path.insert(0, {root!r})
import conftest, saekit as sk
from saekit.index import parts
parts.CHUNK_WINDOWS = 4
model = conftest.tiny_model()
corpus = sk.load_corpus(conftest.tiny_texts(80), name="tiny")
sae = conftest.tiny_sae(model, seed={seed})
print(sae.fingerprint, flush=True)
for out in sys.stdin:
    try:
        sk.build_index(model, sae, corpus, out=out.strip(), length=32, progress=False)
        print("built", flush=True)
    except sk.errors.SaekitError as e:
        print(type(e).__name__, flush=True)
"""


@pytest.mark.slow
def test_two_builds_with_different_saes_give_one_right_index_or_none(tmp_path: Path) -> None:
    codes = [BUILD.format(root=str(ROOT), seed=seed) for seed in (0, 1)]
    both = [
        subprocess.Popen([sys.executable, "-c", c], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for c in codes
    ]

    def answers(*folders: Path) -> list[str]:
        for process, folder in zip(both, folders, strict=True):
            assert process.stdin is not None
            process.stdin.write(f"{folder}\n")
            process.stdin.flush()
        return [p.stdout.readline().strip() for p in both if p.stdout is not None]

    try:
        fingerprints = [p.stdout.readline().strip() for p in both if p.stdout is not None]
        assert answers(tmp_path / "0", tmp_path / "1") == ["built", "built"]
        alone = dict(zip(fingerprints, (sk.load_index(tmp_path / n).matrix for n in ("0", "1")), strict=True))
        for n in range(5):
            out = tmp_path / f"both{n}"
            said = answers(out, out)
            assert "built" in said and set(said) <= {"built", "FolderInUseError", "MismatchError"}
            index = sk.load_index(out)
            index.verify()
            assert abs(index.matrix - alone[index.manifest["sae"]["fingerprint"]]).max() == 0
            assert not [p.name for p in out.iterdir() if p.name[0] == "." or p.is_dir()]
    finally:
        for process in both:
            process.kill()
            process.wait()


TRAIN = """
import sys
sys.path.insert(0, {root!r})
import conftest, saekit as sk
model, corpus = conftest.tiny_model(), sk.load_corpus(conftest.tiny_texts(), name="tiny")
config = sk.TrainConfig(n_tokens=200 * 64, batch_size=64, context_size=16, buffer_tokens=256, checkpoint_every=20)
sae = sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4)
sk.train(model, corpus, hook_name=conftest.HOOK, sae=sae, config=config, out={out!r}, progress=False)
"""


@pytest.mark.slow
def test_two_training_runs_in_one_folder_leave_one_history_and_a_kill_frees_it(
    model: Any, corpus: Any, tmp_path: Path
) -> None:
    code = TRAIN.format(root=str(ROOT), out=str(tmp_path / "run"))
    first = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # holds the lock as long as the test needs
    with pytest.raises(FolderInUseError, match="another process is writing a training run"):
        train(model, corpus, tmp_path / "run")
    first.send_signal(signal.SIGKILL)
    first.send_signal(signal.SIGCONT)
    first.wait()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(10, 201, 10))
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted(
        ["cfg.json", "metrics.jsonl", "sae_weights.safetensors", "sparsity.safetensors"]
    )
