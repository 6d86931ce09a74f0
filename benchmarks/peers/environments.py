"""An environment for each library, made on first use: they cannot share one with us or with each other.

Every pip command names the torch that runs here, so that no other is pulled in beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import torch

DEFAULT = Path(platformdirs.user_cache_dir("saekit")) / "benchmark-peers"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A library as its own users install it."""

    library: str
    """Its name, as worker.py takes it."""
    pins: tuple[str, ...]
    """What to install beside torch."""
    without: tuple[str, ...] = ()
    """What to take out again."""


PEERS = (
    Peer(library="saelens", pins=("sae-lens==6.54.12",)),
    # nnsight brings a torchvision that may be built for another torch: transformers, finding it, then fails to import.
    Peer(library="dictionary_learning", pins=("dictionary-learning==0.1.0",), without=("torchvision",)),
    Peer(library="sparsify", pins=("eai-sparsify==1.3.3",)),
)


class NotInstalled(Exception):  # noqa: N818 - said in the table, not an error of ours
    """Why a library has no environment."""


def environment(peer: Peer, folder: Path) -> Path:
    """The interpreter of the library's environment below `folder`, made when it is not there; or NotInstalled."""
    root = folder / peer.library
    python = root / "bin" / "python"
    pins = [f"torch=={torch.__version__.split('+')[0]}", *peer.pins]
    done = root / "pins.json"
    if done.is_file() and json.loads(done.read_text()) == pins:
        return python
    print(f"setting up {root} with {', '.join(pins)}", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(root)])
    _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *pins])
    if peer.without:
        _run([str(python), "-m", "pip", "uninstall", "-q", "-y", *peer.without])
    done.write_text(json.dumps(pins))
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise NotInstalled((errors or done.stderr.splitlines() or ["pip failed"])[0])
