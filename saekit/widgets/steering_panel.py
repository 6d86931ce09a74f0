"""SteeringPanel: one prompt answered under several conditions side by side, token by token, over several turns.

The widget is given functions that write, read back and describe a feature, never a model (steering_writer.py has
those). A worker thread takes a step of all texts at a time; stopping takes effect before the next token.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pandas as pd

from ..arguments import checks_arguments
from ..errors import ConfigError, SaekitError
from ..steering.strength_units import convert_strength
from .steering_history import export, frame_of, lines_of
from .steering_request import (
    ConceptPresent,
    Condition,
    DescribeFeature,
    NewToken,
    PanelMessage,
    ReadTexts,
    SteeringRequest,
    WriteTexts,
)
from .steering_traits import SteeringTraits
from .worker import Worker

SETTINGS = ("chat", "positions", "max_new_tokens", "temperature", "seed", "unit")
SECONDS = 0.1
"""Between two updates of the browser while texts grow."""


class SteeringPanel(SteeringTraits):
    """Texts that a model writes under several conditions, beside each other; strengths, sampling and turns are live.

    Made by `steer`. Every control is a live trait; `run`, `reply`, `redo`, `sweep` and `stop` work from Python as the
    buttons do.
    """

    bundle = "steering_panel"
    messages = PanelMessage

    def __init__(
        self,
        write: WriteTexts | None = None,
        read: ReadTexts | None = None,
        describe: DescribeFeature | None = None,
        present: ConceptPresent | None = None,
        **kwargs: Any,
    ) -> None:
        self._write, self._read, self._describe, self._present = write, read, describe, present
        self._worker = Worker()
        self._failure: BaseException | None = None
        self._names: dict[int, str] = {}
        super().__init__(**kwargs)
        self.observe(lambda _: self._describe_features(), names=["conditions", "colour_feature"])
        self.observe(lambda change: self._convert(change["old"], change["new"]), names="unit")
        self._describe_features()

    @property
    def feature(self) -> int:
        """The first clamped feature; settable. ConfigError when no condition has one."""
        return self._first()[1]

    @feature.setter
    def feature(self, feature: int) -> None:
        at, _, strength = self._first()
        self._replace(at, features=((feature, strength), *self._conditions[at].features[1:]))

    @property
    def strength(self) -> float:
        """The first clamped feature's strength, in `unit`; settable."""
        return self._first()[2]

    @strength.setter
    def strength(self, strength: float) -> None:
        at, feature, _ = self._first()
        self._replace(at, features=((feature, float(strength)), *self._conditions[at].features[1:]))

    @property
    def texts(self) -> dict[str, str]:
        """The latest replies, by condition."""
        replies = self.exchanges[-1]["replies"] if self.exchanges else []
        return {c["name"]: "".join(r["tokens"]) for c, r in zip(self.ran, replies, strict=False)}

    def run(self, *, wait: bool = False) -> SteeringPanel:
        """The panel itself, `prompt` being answered under all conditions in the background, or already with `wait`.

        With `wait`, an error is raised here as well as shown, and an interrupt stops the run before its next token: it
        is raised once the run has ended and the model is as it was. ConfigError when it is running, or has no model or
        no conditions.
        """
        return self._start(self._conditions, self.unit, [], self.prompt, wait)

    def reply(self, message: str, *, wait: bool = False) -> SteeringPanel:
        """The panel itself, every conversation continued with `message`, under the conditions it began with."""
        self._check_conversation()
        return self._start(self._ran, self.ran_unit, self.exchanges, message, wait)

    def redo(self, *, wait: bool = False) -> SteeringPanel:
        """The panel itself, the last message being answered again with the seed, temperature and length of now."""
        self._check_conversation()
        return self._start(self._ran, self.ran_unit, self.exchanges[:-1], self.exchanges[-1]["user"], wait)

    @checks_arguments
    def sweep(
        self,
        strengths: Sequence[float] | None = None,
        *,
        feature: int | None = None,
        condition: int | None = None,
        wait: bool = False,
    ) -> SteeringPanel:
        """The panel itself, `prompt` being answered at each strength of a feature, beside the unsteered text.

        What else the condition does stays as it is. `condition` counts from 0; the first that has the feature.
        """
        if strengths is not None:
            self.sweep_strengths = [float(s) for s in strengths]
        feature = self.feature if feature is None else feature
        having = [i for i, c in enumerate(self._conditions) if feature in dict(c.features)]
        if not having or not self.sweep_strengths or (condition is not None and condition not in having):
            raise ConfigError(
                "nothing to sweep over",
                got=f"feature {feature}, strengths {self.sweep_strengths}",
                accepted=f"features of the conditions ({having or 'none has it'}), and one or more strengths",
            )
        base = self._conditions[having[0] if condition is None else condition]
        swept = [replace(base.at(feature, s), name=f"{base.name} at {s:g}") for s in self.sweep_strengths]
        return self._start([Condition(name="unsteered"), *swept], self.unit, [], self.prompt, wait)

    def stop(self, *, wait: bool = False) -> None:
        """Ends the run before its next token; what was written stays."""
        self._worker.stop()
        if wait:
            self._worker.wait()

    def to_frame(self) -> pd.DataFrame:
        """A row per run, turn and condition: message, reply, nll, repetition, whether it has the concept, settings."""
        return frame_of(self.runs)

    def export(self, path: str | Path) -> Path:
        """Writes the history and returns its path: .json, `runs` as they are; .csv, `to_frame`."""
        return export(self.runs, path)

    def page_state(self) -> dict[str, Any]:
        return {**super().page_state(), "live": False, "running": False}

    def text(self) -> str:
        """The conditions, and the texts once there are some."""
        shown, unit = (self._ran, self.ran_unit) if self.exchanges else (self._conditions, self.unit)
        head = f"SteeringPanel: {len(shown)} conditions, {self.positions} positions"
        lines = [head, *lines_of(shown, unit, self.prompt, self.exchanges)]
        return "\n".join([*lines, *([f"  error    {self.error}"] if self.error else [])])

    def static_picture(self) -> str:
        from .pictures import steering_picture

        shown, unit = (self._ran, self.ran_unit) if self.exchanges else (self._conditions, self.unit)
        conditions = [(c.name, c.in_words(unit)) for c in shown]
        about = f"{len(shown)} conditions, {self.positions} positions"
        return steering_picture(about, conditions, self.prompt, self.exchanges, self.error)

    def at_rest(self) -> bool:
        return not self.running

    # ---- the worker thread --------------------------------------------------------------------------------------

    def _start(
        self, conditions: Sequence[Condition], unit: str, before: Sequence[dict[str, Any]], message: str, wait: bool
    ) -> SteeringPanel:
        write = self._write
        if write is None:
            raise ConfigError("the panel has no model to write with", fix="make it with sk.steer(model, sae)")
        if self.running:
            raise ConfigError("the panel is writing already", fix="call panel.stop() first, or wait")
        if not conditions:
            raise ConfigError("the panel has no conditions", got=[], fix="add one: panel.conditions, or the button")
        earlier_replies = [tuple("".join(e["replies"][i]["tokens"]) for e in before) for i in range(len(conditions))]
        request = SteeringRequest(
            conditions=tuple(conditions),
            messages=(*(e["user"] for e in before), message),
            replies=tuple(earlier_replies),
            chat=self.chat,
            unit=cast(Any, unit),
            positions=cast(Any, self.positions),
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seed=self.seed,
        )

        def work() -> None:
            self._work(write, request, list(before))

        self._failure = None
        try:
            self.error, self.status, self.running = "", "Reading the prompt…", True
            self._worker.start(work, wait=wait)
        except KeyboardInterrupt:
            self.running = False
            raise
        if wait and self._failure is not None:
            raise self._failure
        return self

    def _work(self, write: WriteTexts, request: SteeringRequest, before: list[dict[str, Any]]) -> None:
        """One turn, in the worker's thread."""
        written: list[list[NewToken]] = [[] for _ in request.conditions]
        ended = [False] * len(written)
        earlier = self.details[: len(before)]
        self.done, self.total, begun = 0, len(written) * request.max_new_tokens, False
        try:
            steps = write(request, self._worker.stopped)  # an error here leaves what is shown as it is
            started, shown, begun = time.perf_counter(), 0.0, True
            with self.hold_sync():
                self.ran, self.ran_unit = [c.to_dict() for c in request.conditions], request.unit
                self.details = [*earlier, [None] * len(written)]
                self._show(request, before, written)
            for step in steps:
                for i, token in enumerate(step):
                    ended[i] = ended[i] or token is None
                    if token is not None:
                        written[i].append(token)
                if (now := time.perf_counter()) - shown >= SECONDS:
                    shown = now
                    self._show(request, before, written)
                    self._show_rate(now - started)
            ends = ["eos" if e else "stopped" if self._worker.stopped() else "length" for e in ended]
            self._show(request, before, written)
            self.status = "Reading the texts back…"
            notes = self._read(request, written) if self._read is not None else []
            replies = [_reply(tokens) | {"end": end} for tokens, end in zip(written, ends, strict=True)]
            for reply, note in zip(replies, notes, strict=False):
                mean = sum(note.nll) / len(note.nll) if note.nll else None
                reply |= {"nll": list(note.nll), "mean_nll": mean, "repetition": note.repetition}
            for reply in replies:
                reply["present"] = self._present("".join(reply["tokens"])) if self._present is not None else None
            self._names = {i: name for note in notes for i, name in note.names.items()}
            with self.hold_sync():
                self._describe_features()
                self.exchanges = [*before, {"user": request.messages[-1], "replies": replies}]
                self.details = [*earlier, [{**note.acts, "choices": note.choices} for note in notes]]
                self._keep(request, n_before=len(before))
            seconds = time.perf_counter() - started
            how = "Stopped after" if self._worker.stopped() else "Done:"
            self.status = f"{how} {self.done} tokens in {seconds:.1f} s."
        except BaseException as e:  # in a thread: whatever it is must be shown
            self._failure = e
            self.error = str(e) if isinstance(e, SaekitError) else f"{type(e).__name__}: {e}"
            self.status = ""
            if begun:
                self.exchanges, self.details = before, earlier
        finally:
            self.running = False
            self.update_picture()

    def _show(self, request: SteeringRequest, before: Sequence[Any], written: Sequence[Sequence[NewToken]]) -> None:
        self.exchanges = [*before, {"user": request.messages[-1], "replies": list(map(_reply, written))}]
        self.done = sum(map(len, written))

    def _show_rate(self, seconds: float) -> None:
        rate = self.done / seconds
        left = (self.total - self.done) / max(rate, 1e-9)
        self.status = f"{self.done} of at most {self.total} tokens, {rate:.0f} a second, {left:.0f} s left"

    def _keep(self, request: SteeringRequest, n_before: int) -> None:
        """The conversation in the history; one more turn goes to the run it belongs to."""
        how = {name: getattr(request, name) for name in SETTINGS}
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        run = {"prompt": request.messages[0], **how, "conditions": self.ran, "exchanges": self.exchanges}
        continued = n_before > 0 and n_before == len(self.runs[-1]["exchanges"])
        self.runs = [*(self.runs[:-1] if continued else self.runs), {**run, "started": started}]

    # ---- the form -----------------------------------------------------------------------------------------------

    @property
    def _conditions(self) -> list[Condition]:
        return [Condition.from_dict(c, self.n_features) for c in self.conditions]

    @property
    def _ran(self) -> list[Condition]:
        return [Condition.from_dict(c, self.n_features) for c in self.ran]

    def _first(self) -> tuple[int, int, float]:
        for at, condition in enumerate(self._conditions):
            for feature, strength in condition.features:
                return at, feature, strength
        raise ConfigError("no condition clamps a feature", got=self.conditions, fix="set panel.conditions")

    def _replace(self, at: int, **parts: Any) -> None:
        new = replace(self._conditions[at], **parts)
        self.conditions = [new.to_dict() if i == at else c for i, c in enumerate(self.conditions)]

    def _check_conversation(self) -> None:
        if not self.chat or not self.exchanges:
            raise ConfigError(
                "there is no conversation to continue",
                got=f"chat {self.chat}, {len(self.exchanges)} turns",
                accepted="a run with chat on",
                fix="panel.chat = True; panel.run(wait=True)",
            )

    def _describe_features(self) -> None:
        if self._describe is not None:
            features = {i for c in self._conditions for i, _ in c.features} | {self.colour_feature}
            named = {str(i): {"name": name, "max": 0.0, "recommended": None} for i, name in self._names.items()}
            self.about = named | {str(i): dict(self._describe(i)) for i in sorted(features)}

    def _scales(self, feature: int) -> dict[str, float]:
        about = self.about.get(str(feature), {})
        return {"raw": 1.0, "max": float(about.get("max", 0.0)), "norm": about.get("residual", self.residual_norm)}

    def _convert(self, before: str, after: str) -> None:
        """The same strengths in the new unit."""
        found = [i for c in self._conditions for i, _ in c.features]
        scales = {i: self._scales(i) for i in found}
        self.conditions = [
            replace(
                c, features=tuple((i, convert_strength(s, before, after, scales[i])) for i, s in c.features)
            ).to_dict()
            for c in self._conditions
        ]
        first = scales[found[0]] if found else self._scales(self.colour_feature)
        self.sweep_strengths = [convert_strength(s, before, after, first) for s in self.sweep_strengths]

    def receive(self, message: Mapping[str, Any]) -> None:
        kind = message["kind"]
        if kind == "stop":
            self.stop()
        elif self.running:  # a button pressed just before the run was shown as running
            return
        elif kind == "reply":
            self.reply(message["message"])
        elif kind == "sweep":
            self.sweep(feature=message["feature"], condition=message["condition"])
        else:
            {"run": self.run, "redo": self.redo}[kind]()


def _reply(tokens: Sequence[NewToken]) -> dict[str, Any]:
    plain: dict[str, Any] = {"nll": [], "mean_nll": None, "repetition": None, "present": None, "end": ""}
    return {"tokens": [token.text for token in tokens], **plain}
