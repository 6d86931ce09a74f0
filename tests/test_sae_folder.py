"""An SAE's folder holds one whole SAE, whenever the process that saves there is killed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import saekit as sk
from saekit.errors import FileError, FolderInUseError
from saekit.output_folder import output_folder
from saekit.sae.formats.replacement import NEW

KILLED = """
import json, os, shutil, signal, sys
from pathlib import Path
import torch
import saekit as sk
from saekit.errors import FileError

torch.set_num_threads(1)
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree", "shutil.copyfile")


def sae(seed, dense):
    made = sk.SAE(sk.SAEConfig(d_in=4, d_sae=8, activation="topk", k=2, seed=seed))
    made.density = torch.linspace(0.1, 0.2, 8) + seed / 4 if dense else None
    return made


def save_until(n, made, folder):
    "Saves in another process, which is killed before the n-th event in the folder; whether it lived."
    child = os.fork()
    if child == 0:
        seen = [0]

        def count(event, args):
            if event in EVENTS and any(isinstance(a, (str, os.PathLike)) and str(folder) in str(a) for a in args):
                seen[0] += 1
                if seen[0] == n:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        made.save(folder)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def found(folder):
    try:
        loaded = sk.load_sae(folder)
    except FileError as e:
        return "refused"
    density = None if loaded.density is None else [round(d, 4) for d in loaded.density.tolist()]
    return [loaded.fingerprint, density]


def what(made):
    return [made.fingerprint, None if made.density is None else [round(d, 4) for d in made.density.tolist()]]


folder, results = Path(sys.argv[1]), []
for before, after in ((None, True), (True, True), (True, False), (False, True)):
    old, new = None if before is None else sae(0, before), sae(1, after)
    aside = folder.with_name(f"old-{before}-{after}")
    if old is not None:
        old.save(aside)
    new.fingerprint
    for n in range(1, 200):
        shutil.rmtree(folder, ignore_errors=True)
        if old is not None:
            shutil.copytree(aside, folder)
        lived = save_until(n, new, folder)
        seen = found(folder)
        state = "new" if seen == what(new) else "old" if old is not None and seen == what(old) else seen
        new.save(folder)
        again = found(folder) == what(new) and not any(p.name[0] == "." for p in folder.iterdir())
        results.append([before, after, n, state, again])
        if lived:
            break
print(json.dumps(results))
"""


@pytest.mark.slow
def test_a_kill_at_any_file_event_leaves_the_old_sae_or_the_new_one(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", KILLED, str(tmp_path / "sae")], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    results = json.loads(run.stdout)
    for (before, after), n_least in {(None, True): 20, (True, True): 25, (True, False): 20, (False, True): 25}.items():
        states = [state for b, a, _, state, _ in results if (b, a) == (before, after)]
        first = "refused" if before is None else "old"
        n_first = states.index("new")
        assert states == [first] * n_first + ["new"] * (len(states) - n_first), states
        assert len(states) >= n_least and 5 < n_first < len(states) - 5
    assert all(again for *_, again in results)


def small(seed: int = 0) -> sk.SAE:
    sae = sk.SAE(sk.SAEConfig(d_in=4, d_sae=8, activation="topk", k=2, seed=seed))
    sae.density = torch.linspace(0.1, 0.2, 8) + seed / 4
    return sae


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_an_sae_whose_files_were_not_all_moved_is_read_whole_and_a_later_save_ends_it(
    moved: int, tmp_path: Path
) -> None:
    old, new = small(0), small(1)
    old.save(tmp_path)
    new.save(tmp_path / "next")
    (tmp_path / "next").rename(tmp_path / NEW)
    if moved:
        (tmp_path / "cfg.json").unlink()
    for name in ("sae_weights.safetensors", "sparsity.safetensors")[:moved]:
        (tmp_path / NEW / name).replace(tmp_path / name)
    loaded = sk.load_sae(tmp_path)
    assert loaded.fingerprint == new.fingerprint and loaded.density is not None
    assert torch.allclose(loaded.density, new.density)
    small(2).save(tmp_path)
    assert sk.load_sae(tmp_path).fingerprint == small(2).fingerprint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cfg.json", "sae_weights.safetensors", "sparsity.safetensors"]


def test_new_weights_and_an_old_configuration_are_refused(tmp_path: Path) -> None:
    small(0).save(tmp_path)
    small(1).save(tmp_path / "other")
    for name in ("sae_weights.safetensors", "sparsity.safetensors"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes((tmp_path / "other" / name).read_bytes())
        with pytest.raises(FileError, match=f"{name} is not the file that was saved"):
            sk.load_sae(tmp_path)
        (tmp_path / name).write_bytes(content)


def test_links_and_modes_of_an_saes_files_stay(tmp_path: Path) -> None:
    folder = small(0).save(tmp_path / "sae")
    (tmp_path / "far").mkdir()
    (folder / "sae_weights.safetensors").rename(tmp_path / "far" / "weights")
    (folder / "sae_weights.safetensors").symlink_to(tmp_path / "far" / "weights")
    (folder / "cfg.json").chmod(0o600)
    small(1).save(folder)
    assert (folder / "sae_weights.safetensors").is_symlink() and sk.load_sae(folder).fingerprint == small(1).fingerprint
    assert (folder / "cfg.json").stat().st_mode & 0o777 == 0o600


def test_two_threads_do_not_save_in_one_folder_at_once(tmp_path: Path) -> None:
    small(0).save(tmp_path)
    refused: list[str] = []

    def save() -> None:
        try:
            small(1).save(tmp_path)
        except FolderInUseError as e:
            refused.append(str(e))

    with output_folder(tmp_path, "an SAE"):
        thread = threading.Thread(target=save)
        thread.start()
        thread.join()
    assert "another thread of this process is writing an SAE" in refused[0]
    assert sk.load_sae(tmp_path).fingerprint == small(0).fingerprint
