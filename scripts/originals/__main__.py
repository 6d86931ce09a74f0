"""Writes every case into a folder: see the package's docstring."""

from __future__ import annotations

import importlib.metadata
import json
import sys
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import libraries as libraries
from . import lm_saes as lm_saes
from . import published as published
from . import saelens_files as saelens_files
from .cases import CASES, N_VECTORS, RELEASES, D

ORIGINALS = {
    "sparsify": "eai-sparsify",
    "dictionary_learning": "dictionary-learning",
    "circuit_tracer": "circuit-tracer",
    "lm_saes": "llamascopium",
    "openai": None,
}
"""By family: the distribution on PyPI that reads it; SAELens reads the others, and releases of its own list."""


def checked_against(name: str) -> str:
    package = "sae-lens" if name in RELEASES else ORIGINALS.get(name.split("-")[0], "sae-lens")
    return f"{package} {importlib.metadata.version(package)}" if package else "its published formula"


def main(folder: Path) -> None:
    torch.manual_seed(0)
    x = 3 * torch.randn(N_VECTORS, D) + 0.5 * torch.randn(D)
    save_file({"x": x}, folder / "x.safetensors")
    cases = {}
    for name, write in CASES.items():
        torch.manual_seed(zlib.crc32(name.encode()))  # a new case leaves the others' files as they are
        root = folder / name / "files"
        root.mkdir(parents=True)
        path, original = write(root)
        with torch.no_grad():
            acts, x_hat = original(x)
        save_file({"acts": acts.contiguous(), "x_hat": x_hat.contiguous()}, folder / f"{name}.safetensors")
        cases[name] = {"path": path, "checked_against": checked_against(name)}
        if name in RELEASES:
            cases[name] |= {"release": RELEASES[name][0], "id": RELEASES[name][1]}
    (folder / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


main(Path(sys.argv[1]))
