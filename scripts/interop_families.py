"""Checks that saekit reads the SAE files of every family as the library they come from does.

    .venv/bin/python scripts/interop_families.py [--write]

The original libraries write and read small SAEs in the environment of scripts/interop.py (scripts/originals/); each
file is loaded here, and features and reconstructions of 1,000 activations must agree to 1e-5 of the largest. Then the
names of published SAEs are compared with SAELens' list. Exits with 1 when anything differs. With --write the files and
what the originals made of the first 64 activations are kept in tests/interop/families/, where
tests/test_sae_formats_interop.py reads them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import interop
import numpy as np
import torch
from safetensors.torch import load_file, save_file

KEPT = interop.ROOT / "tests" / "interop" / "families"
WITHOUT_DEPENDENCIES = (
    "eai-sparsify==1.3.3",
    "dictionary-learning==0.1.0",
    "circuit-tracer==0.5.0",
    "llamascopium==2.0.0b34",
    "accelerate==1.15.0",
    "attrs==26.1.0",
    "cattrs==26.2.1",
    "json-repair==0.64.6",
    "more-itertools==11.2.1",
    "natsort==8.4.0",
    "pydantic-settings==2.16.3",
)
"""Installed as they are: what else they name only gathers activations, trains or serves pages."""
N_KEPT = 64


def main() -> int:
    import saekit as sk
    from saekit.sae.formats import hub

    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    python = interop.environment()
    add_libraries(python)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        originals = [str(python), "-W", "ignore", "-m", "originals", name]
        subprocess.run(originals, check=True, cwd=Path(__file__).parent, stdout=subprocess.DEVNULL)
        cases = json.loads((folder / "cases.json").read_text())
        x = load_file(folder / "x.safetensors")["x"]
        worst = 0.0
        print(f"{'case':36} {'checked against':26} {'l0':>5} {'features differ':>16} {'x_hat differs':>14}")
        for case, about in cases.items():
            expected = load_file(folder / f"{case}.safetensors")
            try:
                sae = load(sk, hub, folder / case / "files", about)
            except sk.errors.SaekitError as e:
                print(f"{case:36} {about['checked_against']:26} NOT READ: {e}")
                worst = float("inf")
                continue
            with torch.no_grad():
                acts, x_hat = sae.encode(x), sae(x).x_hat
            differ = [
                float((made - expected[part]).abs().max() / expected[part].abs().max())
                for part, made in (("acts", acts), ("x_hat", x_hat))
            ]
            l0 = float((expected["acts"] != 0).sum(1).float().mean())
            print(f"{case:36} {about['checked_against']:26} {l0:5.1f} {differ[0]:16.1e} {differ[1]:14.1e}")
            worst = max(worst, *differ)
        if write:
            keep(folder, cases, x)
    agree = worst <= interop.TOLERANCE
    print(f"{'agree' if agree else 'DO NOT AGREE'}: largest difference {worst:.1e}, allowed {interop.TOLERANCE:.0e}")
    same = names_agree(python)
    return 0 if agree and same else 1


def add_libraries(python: Path) -> None:
    """The other libraries, beside SAELens and with the dependencies that it brought."""
    done = interop.ENVIRONMENT / "families.json"
    if not done.is_file() or json.loads(done.read_text()) != list(WITHOUT_DEPENDENCIES):
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*install, *WITHOUT_DEPENDENCIES], check=True)
        done.write_text(json.dumps(WITHOUT_DEPENDENCIES))


def load(sk: Any, hub: Any, root: Path, about: dict[str, str]) -> Any:
    """The SAE of a case: by its published name, with its files in place of the Hub, where it has one."""
    if "release" not in about:
        return sk.load_sae(root / about["path"])
    files = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
    real, hub.fetch = hub.fetch, lambda repo, path, revision: root / hub.files_of(files, path, repo)[0]
    try:
        return sk.load_sae(f"{about['release']}/{about['id']}")
    finally:
        hub.fetch = real


def keep(folder: Path, cases: dict[str, dict[str, str]], x: torch.Tensor) -> None:
    """Copies the files, and what the originals made of the first activations, into tests/interop/families/."""
    shutil.rmtree(KEPT, ignore_errors=True)
    for case in cases:
        shutil.copytree(folder / case / "files", KEPT / case)
        made = load_file(folder / f"{case}.safetensors")
        acts, x_hat = made["acts"][:N_KEPT], made["x_hat"][:N_KEPT]
        fires = torch.from_numpy(np.packbits((acts != 0).numpy(), axis=1))  # a bit for each feature
        kept = {"values": acts[acts != 0], "fires": fires, "x_hat": x_hat.contiguous()}
        save_file(kept, KEPT / f"{case}.safetensors")
    save_file({"x": x[:N_KEPT].contiguous()}, KEPT / "x.safetensors")
    (KEPT / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


def names_agree(python: Path) -> bool:
    """Whether releases.json gives the ids and paths of the list in the SAELens that is installed."""
    [found] = interop.ENVIRONMENT.glob("lib/*/site-packages/sae_lens/pretrained_saes.yaml")
    check = [sys.executable, str(Path(__file__).with_name("saelens_releases.py")), str(found), "--check"]
    paths = os.pathsep.join([str(interop.ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(check, env={**os.environ, "PYTHONPATH": paths}).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
