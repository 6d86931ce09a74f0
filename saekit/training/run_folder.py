"""The folder of a run: metrics.jsonl, checkpoints/, and the SAE or SAEs that came out."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from ..activations.arrays import OF_ITERABLE
from ..atomic_io import atomic_write
from ..errors import MismatchError
from ..hook_points import HookPoint, hook_names
from ..json_files import Natural
from ..json_lines import append_lines, as_lines, read_lines
from ..sae import SAE, SAEConfig, load_sae, saved_config
from .checkpoints import load_checkpoint, save_checkpoint
from .config import TrainConfig, configuration_differs, difference

if TYPE_CHECKING:
    import pandas as pd


class Row(TypedDict):
    """One line of metrics.jsonl; the metrics are beside these."""

    sae: Natural
    step: Natural


class RunFolder:
    """Where one call of `train` writes. Without a path it only remembers the metrics."""

    def __init__(self, path: str | Path | None, configs: Sequence[SAEConfig], single: bool) -> None:
        self.path = None if path is None else Path(path)
        self.configs = list(configs)
        self.names = [""] if single else folder_names(configs)
        self.rows: list[dict[str, Any]] = []

    def finished(self, config: TrainConfig, origin: Mapping[str, str] | None) -> list[SAE] | None:
        """The SAEs of a run that ended here under the same configuration, None if none.

        MismatchError under another, and when it was trained on anything but `origin` (`ActivationBatches.origin`).
        """
        if self.path is None or not all((self.path / n / "cfg.json").is_file() for n in self.names):
            return None
        saes = [load_sae(self.path / n) for n in self.names]
        if not all(s.training_summary.get("finished") for s in saes):
            return None
        for name, sae, wanted in zip(self.names, saes, self.configs, strict=True):
            dtype = saved_config(self.path / name).dtype  # half precision is single precision once it is loaded
            for saved, now in (
                (sae.training_summary["config"], config.to_dict()),
                (sae.config.replace(dtype=dtype).to_dict(), wanted.to_dict()),
            ):
                differs = difference(saved, now)
                if differs is None or differs[0] == "token_filter":  # which other text alone would change
                    check_origin(sae.training_summary.get("trained_on"), origin, self.path)
                if differs:
                    raise configuration_differs(*differs)
        self._read_rows(last_step=None)
        n_rows = -(-config.n_steps // config.log_every)
        if any(sum(row["sae"] == i for row in self.rows) < n_rows for i in range(len(saes))):
            file = self.path / "metrics.jsonl"
            warnings.warn(f"{file} was cut short or is missing: the history of the run is not whole", stacklevel=3)
        for i, sae in enumerate(saes):
            sae.history = self.history(i)
        return saes

    def resume(self) -> dict[str, Any] | None:
        """The state of the newest whole checkpoint, with the metrics up to it; None when there is none."""
        if self.path is None:
            return None
        state = load_checkpoint(self.path / "checkpoints")
        if state is not None:
            self._read_rows(last_step=state["step"])
        return state

    def check_free(self) -> None:
        """MismatchError when SAEs lie here already: they would be written over."""
        if self.path is None:
            return
        found = [p.parent.name for p in sorted(self.path.glob("[0-9]*-*/cfg.json"))]
        found += ["cfg.json"] if (self.path / "cfg.json").is_file() else []
        if found:
            raise MismatchError(
                f"other SAEs lie here and would be written over, in {self.path}",
                got=", ".join(found),
                accepted="a folder without SAEs, or the configurations of the run that lies here",
                fix="pass another out=, or resume=False to write over them",
            )

    def start(self, new: bool) -> None:
        """Makes the folder ready for the next step: metrics after it go and, for a new run, old checkpoints too."""
        if self.path is None:
            return
        if new:
            shutil.rmtree(self.path / "checkpoints", ignore_errors=True)
        with atomic_write(self.path / "metrics.jsonl") as part:
            part.write_text(as_lines(self.rows), "utf8")

    def log(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds rows of metrics, one per SAE."""
        self.rows += [dict(row) for row in rows]
        if self.path is not None:
            append_lines(self.path / "metrics.jsonl", rows)

    def checkpoint(self, step: int, state: Mapping[str, Any], saes: Sequence[SAE]) -> None:
        """Writes a checkpoint."""
        if self.path is not None:
            named = {f"sae{'-' * bool(n)}{n}": sae for n, sae in zip(self.names, saes, strict=True)}
            save_checkpoint(self.path / "checkpoints", step, {"step": step, **state}, named)

    def save(self, saes: Sequence[SAE], finished: bool) -> None:
        """Writes the SAEs; once they are finished the checkpoints have served."""
        if self.path is None:
            return
        for name, sae in zip(self.names, saes, strict=True):
            sae.save(self.path / name)
        if finished:
            shutil.rmtree(self.path / "checkpoints", ignore_errors=True)

    def history(self, i: int) -> pd.DataFrame:
        """The metrics of SAE number i, one row per logged step."""
        import pandas as pd

        frame = pd.DataFrame([row for row in self.rows if row["sae"] == i])
        return frame.drop(columns="sae").set_index("step") if len(frame) else frame

    def _read_rows(self, last_step: int | None) -> None:
        """Rows of metrics.jsonl up to a step; a last line that a kill cut short is left out."""
        assert self.path is not None
        rows = read_lines(
            self.path / "metrics.jsonl", Row, fix="remove that line or the file: only the history is lost"
        )
        self.rows = [row for row in rows if last_step is None or row["step"] <= last_step]


SHUFFLED = (
    ". Batches that are shuffled anew each time begin with another one although they hold the same: pass "
    "DataLoader(generator=torch.Generator().manual_seed(0)), or the array itself, which is shuffled here"
)
"""What to add where the first batch of an iterable differs."""


def check_origin(saved: Mapping[str, str] | None, now: Mapping[str, str] | None, path: Path | None) -> None:
    """MismatchError when a run was trained on something else; nothing is held against runs that do not say."""
    if saved and now and saved["digest"] != now["digest"]:
        raise MismatchError(
            f"the run in {path} was trained on other text or activations",
            got=f"{now['described']} (digest {now['digest']})",
            accepted=f"{saved['described']} (digest {saved['digest']})",
            fix="pass another folder as out= to keep both, resume=False to train again in this one, "
            f"or what it was trained on{SHUFFLED if now['described'] == OF_ITERABLE else ''}",
        )


def folder_names(configs: Sequence[SAEConfig]) -> list[str]:
    """A folder for each SAE: its number, architecture and size, and its place if they are of several hook points.

    >>> from saekit.training.run_folder import folder_names
    >>> sae = sk.SAEConfig(d_in=8, d_sae=32, k=4, hook_name="blocks.3.hook_resid_post")
    >>> folder_names([sae, sae.replace(hook_name="blocks.4.mlp.hook_in", hook_out="blocks.4.mlp.hook_out")])
    ['0-batchtopk-32-3.resid_post', '1-batchtopk-32-4.mlp.in-to-4.mlp.out']
    """
    several = len({(c.hook_name, c.hook_out) for c in configs}) > 1
    names = []
    for i, c in enumerate(configs):
        where = _place(c.hook_name) + (f"-to-{_place(c.hook_out)}" if c.hook_out else "") if several else ""
        names.append(f"{i}-{c.activation}-{c.d_sae}" + (f"-{where[:80]}" if where else ""))
    return names


def _place(hook_point: HookPoint | None) -> str:
    short = "+".join(name.removeprefix("blocks.") for name in hook_names(hook_point)) if hook_point else ""
    return re.sub(r"[^A-Za-z0-9.+_-]", "_", short.replace("hook_", ""))
