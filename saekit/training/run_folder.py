"""The folder of a run: metrics.jsonl, checkpoints/, and the SAE or SAEs that came out."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import TypedDict

from ..activations import ActivationBatches
from ..activations.arrays import OF_ITERABLE
from ..atomic_io import atomic_write
from ..errors import FileError, MismatchError
from ..hook_points import HookPoint, hook_names
from ..json_files import Natural
from ..json_lines import append_lines, as_lines, read_lines
from ..output_folder import digest_of_plan, output_folder, parts_of, remove_leftovers
from ..sae import SAE, SAEConfig, holds_sae, load_sae, saved_config
from .checkpoints import check_link, has_checkpoints, load_checkpoint, remove_checkpoints, save_checkpoint
from .config import NOT_PART_OF_THE_RUN, TrainConfig, configuration_differs, difference

if TYPE_CHECKING:
    import pandas as pd


class Row(TypedDict):
    """One line of metrics.jsonl; the metrics are beside these."""

    sae: Natural
    step: Natural


class RunFolder:
    """Where one call of `train` writes. Without a path it only remembers the metrics."""

    def __init__(
        self,
        path: str | Path | None,
        configs: Sequence[SAEConfig],
        single: bool,
        config: TrainConfig,
        origin: Mapping[str, str] | None,
    ) -> None:
        self.path = None if path is None else Path(path).expanduser()
        self.configs, self.config, self.origin = list(configs), config, origin
        self.names = [""] if single else folder_names(configs)
        self.rows: list[dict[str, Any]] = []

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints, which may be a link to another disk."""
        assert self.path is not None
        return self.path / "checkpoints"

    @property
    def plan(self) -> str:
        """The digest of everything that the SAEs depend on."""
        return plan_of_run(self.configs, self.config, self.origin)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Inside the block nobody else writes there; what a killed run has left is removed."""
        if self.path is None:
            yield
            return
        with ExitStack() as stack:
            stack.enter_context(output_folder(self.path, "a training run", leftovers=parts_of("metrics.jsonl")))
            if self.checkpoints.is_symlink() and self.checkpoints.is_dir():
                stack.enter_context(output_folder(self.checkpoints, "the checkpoints of a training run"))
            check_link(self.checkpoints, self.plan)
            remove_leftovers(self.checkpoints, [".step-*.part"])
            yield

    def finished(self, *, clear: bool) -> list[SAE] | None:
        """The SAEs of a run that ended here under the same configuration, None if none.

        MismatchError under another, and when it was trained on other text or activations. Damaged SAEs are an error
        only where there is no checkpoint to make them of again. `clear` removes checkpoints, which have served then;
        without it None is returned while there are any.
        """
        if self.path is None or not all(holds_sae(self.path / n) for n in self.names):
            return None
        if not clear and has_checkpoints(self.checkpoints):
            return None
        try:
            saes = [load_sae(self.path / n) for n in self.names]
        except FileError as e:
            if load_checkpoint(self.checkpoints) is None:
                raise
            warnings.warn(f"{e.what}: the run resumes from its last checkpoint", stacklevel=3)
            return None
        if not all(s.training_summary.get("finished") for s in saes):
            return None
        for name, sae, wanted in zip(self.names, saes, self.configs, strict=True):
            dtype = saved_config(self.path / name).dtype  # half precision is single precision once it is loaded
            for saved, now in (
                (sae.training_summary["config"], self.config.to_dict()),
                (sae.config.replace(dtype=dtype).to_dict(), wanted.to_dict()),
            ):
                differs = difference(saved, now)
                if differs is None or differs[0] == "token_filter":  # which other text alone would change
                    check_origin(sae.training_summary.get("trained_on"), self.origin, self.path)
                if differs:
                    raise configuration_differs(*differs)
        self._read_rows(last_step=None)
        stopped = self.rows and max(row["step"] for row in self.rows) < self.config.n_steps
        if stopped and load_checkpoint(self.checkpoints) is not None:
            return None  # these SAEs are of an earlier run, and resume=False began another that was stopped
        n_rows = -(-self.config.n_steps // self.config.log_every)
        if any(sum(row["sae"] == i for row in self.rows) < n_rows for i in range(len(saes))):
            file = self.path / "metrics.jsonl"
            warnings.warn(f"{file} was cut short or is missing: the history of the run is not whole", stacklevel=3)
        for i, sae in enumerate(saes):
            sae.history = self.history(i)
        if clear:
            remove_checkpoints(self.checkpoints)
        return saes

    def resume(self) -> dict[str, Any] | None:
        """The state of the newest whole checkpoint, with the metrics up to it; None when there is none."""
        if self.path is None:
            return None
        state = load_checkpoint(self.checkpoints)
        if state is not None:
            self._read_rows(last_step=state["step"])
        return state

    def check_free(self) -> None:
        """MismatchError when SAEs lie here already: they would be written over."""
        if self.path is None:
            return
        found = [p.name for p in sorted(self.path.glob("[0-9]*-*")) if holds_sae(p)]
        found += ["cfg.json"] if holds_sae(self.path) else []
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
            self.rows = []
            remove_checkpoints(self.checkpoints)
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
            save_checkpoint(self.checkpoints, step, {"step": step, **state}, named, self.plan)

    def save(self, saes: Sequence[SAE], finished: bool) -> None:
        """Writes the SAEs; once they are finished the checkpoints have served."""
        if self.path is None:
            return
        for name, sae in zip(self.names, saes, strict=True):
            sae.save(self.path / name)
        if finished:
            remove_checkpoints(self.checkpoints)

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


def plan_of_run(configs: Sequence[SAEConfig], config: TrainConfig, origin: Mapping[str, str] | None) -> str:
    """The digest of everything that the SAEs of a run depend on.

    That is their configurations, with model, hook points and token filter; how they are trained; and on what.
    """

    def part(of: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in of.items() if name not in NOT_PART_OF_THE_RUN}

    return digest_of_plan(
        {
            "saes": [part(c.to_dict()) for c in configs],
            "config": part(config.to_dict()),
            "trained_on": origin and origin["digest"],
        }
    )


def origin_of(batches: ActivationBatches) -> Mapping[str, str] | None:
    """What batches are drawn from: what they say themselves, or a digest of what their saved state is checked by."""
    if batches.origin is not None:
        return batches.origin
    try:
        identity = batches.state_dict()["identity"]
        return {"digest": digest_of_plan(identity), "described": f"batches of {type(batches).__name__}"}
    except (AttributeError, KeyError, TypeError, NotImplementedError):
        return None


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
