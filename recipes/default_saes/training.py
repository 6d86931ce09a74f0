"""Trains the default SAEs: several widths on one stream of stored activations, and run.json, which says how.

run.json holds the commit, the learning rates, how the activations were made, and the commands that lead from an empty
folder to the packaged SAEs; the cards repeat it.
"""

from __future__ import annotations

import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import saekit as sk
from saekit.atomic_io import write_json
from saekit.json_files import read_json
from saekit.training.config import peak_lr

from ..results import load_results
from . import harvest

ROOT = Path(__file__).parents[2]
COMMAND = "python -m recipes default-saes"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained, as given on the command line."""

    layer: int
    widths: tuple[int, ...]
    """Numbers of features."""
    architecture: str
    k: int
    """Active features per token, on average."""
    nested: bool
    """Whether nested prefixes of the features must reconstruct too."""
    n_tokens: int
    """Training tokens, counting repetitions."""
    lr: float | None
    """The peak learning rate of all widths; None for each width's own."""
    dead_after_tokens: int | None
    seed: int

    def sae_config(self, d_sae: int) -> sk.SAEConfig:
        """The configuration of one width."""
        shared: dict[str, Any] = {"d_in": 576, "d_sae": d_sae, "seed": self.seed, "dataset": "the default mixture"}
        if self.architecture == "jumprelu":
            return sk.SAEConfig(activation="jumprelu", target_l0=float(self.k), **shared)
        nested = (d_sae // 16, d_sae // 4, d_sae) if self.nested else ()
        return sk.SAEConfig(activation=self.architecture, k=self.k, matryoshka=nested, **shared)

    def commands(self, saes: str) -> list[str]:
        """The commands that make these SAEs from an empty folder, in whose folder `saes` they lie."""
        options = f"--layer {self.layer} --architecture {self.architecture} --k {self.k} --n-tokens {self.n_tokens} "
        options += f"--widths {','.join(map(str, self.widths))}" + " --nested" * self.nested
        options += f" --lr {self.lr}" if self.lr else ""
        options += f" --dead-after-tokens {self.dead_after_tokens}" if self.dead_after_tokens else ""
        widest = f"{len(self.widths) - 1}-{self.architecture}-{self.widths[-1]}"
        return [
            f"{COMMAND} own-text FOLDER/own",
            f"{COMMAND} gather FOLDER",
            f"{COMMAND} harvest FOLDER --layers {self.layer}",
            f"{COMMAND} train FOLDER {options} --seed {self.seed}",
            f"{COMMAND} golden-gate FOLDER FOLDER/{shlex.quote(saes)}/{widest}",
            f"{COMMAND} package FOLDER",
        ]


def train_saes(folder: Path, cache: str, out: str, plan: Plan) -> None:
    """Trains the SAEs of `plan` on FOLDER/`cache` into FOLDER/`out`; a run that was stopped resumes."""
    activations = sk.open_activations(folder / cache).at(harvest.hook(plan.layer))
    configs = [plan.sae_config(d_sae) for d_sae in plan.widths]
    config = sk.TrainConfig(
        n_tokens=plan.n_tokens, lr=plan.lr, seed=plan.seed, dead_after_tokens=plan.dead_after_tokens
    )
    path = folder / out / "run.json"
    run = load_results(path) or {"commit": commit(), "seconds": 0.0}
    run |= {
        "n_tokens": plan.n_tokens,
        "lr": {str(c.d_sae): peak_lr(c, config) for c in configs},
        "harvest": read_json(harvest.report_path(folder / cache)),
        "commands": plan.commands(out),
    }
    write_json(path, run)
    started = time.perf_counter()
    saes = sk.train(None, activations, sae=configs, config=config, out=folder / out)
    write_json(path, run | {"seconds": run["seconds"] + time.perf_counter() - started})
    for sae in saes:
        summary = sae.training_summary
        print(
            f"{sae.config.d_sae:>6}: explained variance {summary['explained_variance']:.3f}, L0 {summary['l0']:.1f}, "
            f"{summary['dead_features']} dead, model {sae.config.model_fingerprint}"
        )


def commit() -> str:
    """The commit that is checked out, marked where files differ from it."""
    git = ["git", "-C", str(ROOT)]
    name = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True).stdout
    status = [*git, "status", "--porcelain", "-uno", "saekit", "recipes"]
    changed = subprocess.run(status, capture_output=True, text=True).stdout.strip()
    return name.strip() + (" with changes" if changed else "")
