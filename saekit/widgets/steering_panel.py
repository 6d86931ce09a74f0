"""SteeringPanel: a prompt answered twice, as the model is and with one feature changed, token by token.

The widget is given a function that writes (`Write`) and one that describes a feature, never a model. A worker thread
takes a token from each text in turn, so both grow side by side; stopping takes effect before the next token. Only
`steer` knows a model and an SAE.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import traitlets as t

from ..errors import ConfigError, SaekitError
from .base import Widget, check_at_least, check_choice, check_feature

if TYPE_CHECKING:
    from ..index import FeatureIndex
    from ..models import LanguageModel
    from ..sae import SAE

UNITS = ("raw", "max", "norm")
POSITIONS = ("all", "prompt", "generated")
WORDS = {"raw": "", "max": " x its maximum", "norm": " x the residual norm"}


@dataclass(frozen=True, kw_only=True)
class SteeringRequest:
    """What the panel asks to be written."""

    prompt: str
    chat: bool
    feature: int
    strength: float
    unit: Literal["raw", "max", "norm"]
    positions: Literal["all", "prompt", "generated"]
    max_new_tokens: int
    temperature: float
    seed: int


class Written(Protocol):
    """One token of a text; `steering.StreamToken` is one."""

    @property
    def text(self) -> str: ...


Write = Callable[[SteeringRequest, bool, Callable[[], bool]], Iterator[Written]]
"""(request, steered or not, stop): the tokens one after another; `stop` is asked before each."""
Describe = Callable[[int], tuple[str, float]]
"""A feature's short name and its maximum in the index (0 when unknown)."""


class SteeringPanel(Widget):
    """A prompt, a feature, a strength, and the normal and the steered text beside each other.

    Made by `steer`. Every control is a live trait; `run` and `stop` work from Python as the buttons do.
    """

    bundle = "steering_panel"

    prompt = t.Unicode("", help="What the model reads.").tag(sync=True)
    chat = t.Bool(False, help="Put the prompt into the model's chat template.").tag(sync=True)
    feature = t.Int(0, help="The feature that is clamped.").tag(sync=True)
    name = t.Unicode("", help="The tokens that the feature promotes, by the index.").tag(sync=True)
    feature_max = t.Float(0.0, help="The feature's maximum in the index; 0 when unknown.").tag(sync=True)
    n_features = t.Int(1, help="Number of features of the SAE.").tag(sync=True)
    strength = t.Float(0.5, help="The value the feature is clamped to, in `unit`.").tag(sync=True)
    unit = t.Unicode("norm", help="raw, max (times the feature's maximum) or norm (share of the residual norm).").tag(
        sync=True
    )
    units = t.List(t.Unicode(), list(UNITS), help="Units on offer; max needs an index.").tag(sync=True)
    positions = t.Unicode("all", help="Tokens that are changed: all, prompt or generated.").tag(sync=True)
    max_new_tokens = t.Int(48, help="Tokens to write at most.").tag(sync=True)
    temperature = t.Float(0.0, help="Sampling temperature; 0 takes the likeliest token.").tag(sync=True)
    seed = t.Int(0, help="Seed for sampling.").tag(sync=True)
    running = t.Bool(False, help="Whether a text is being written.").tag(sync=True)
    done = t.Int(0, help="Tokens written in this run.").tag(sync=True)
    total = t.Int(0, help="Tokens this run writes at most.").tag(sync=True)
    normal_text = t.Unicode("", help="What the model writes as it is.").tag(sync=True)
    steered_text = t.Unicode("", help="What it writes with the feature clamped.").tag(sync=True)
    status = t.Unicode("", help="The state of the run in words.").tag(sync=True)
    error = t.Unicode("", help="What went wrong, in words.").tag(sync=True)
    runs = t.List(t.Dict(), help="Finished runs, oldest first.").tag(sync=True)
    live = t.Bool(True, help="Whether Python is there to answer; False on an offline page.").tag(sync=True)

    def __init__(self, write: Write | None = None, describe: Describe | None = None, **kwargs: Any) -> None:
        self._write, self._describe = write, describe
        self._stop = threading.Event()
        self._worker: threading.Thread | None = None
        self._failure: Exception | None = None
        self._normal: tuple[Any, ...] | None = None  # the request that normal_text answers
        super().__init__(**kwargs)
        self.observe(lambda _: self._name_feature(), names="feature")
        self._name_feature()
        self.on_msg(self._on_message)

    @t.validate("feature")
    def _feature_exists(self, proposal: Any) -> int:
        return check_feature(proposal["value"], self.n_features)

    @t.validate("unit")
    def _unit_exists(self, proposal: Any) -> str:
        return check_choice("unit", proposal["value"], self.units)

    @t.validate("positions")
    def _positions_exist(self, proposal: Any) -> str:
        return check_choice("position rule", proposal["value"], POSITIONS)

    @t.validate("max_new_tokens")
    def _some_tokens(self, proposal: Any) -> int:
        return int(check_at_least("max_new_tokens", proposal["value"], 1))

    @t.validate("temperature")
    def _not_negative(self, proposal: Any) -> float:
        return check_at_least("temperature", proposal["value"], 0.0)

    @property
    def request(self) -> SteeringRequest:
        """What `run` would ask for now."""
        return SteeringRequest(
            prompt=self.prompt,
            chat=self.chat,
            feature=self.feature,
            strength=self.strength,
            unit=cast(Any, self.unit),
            positions=cast(Any, self.positions),
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            seed=self.seed,
        )

    def run(self, *, wait: bool = False) -> SteeringPanel:
        """The panel itself, its texts being written in the background, or written already with `wait`.

        With `wait`, an error is raised here as well as shown, and an interrupt stops the run. ConfigError when a run is
        going on or there is nothing to write with.
        """
        if self._write is None:
            raise ConfigError("the panel has nothing to write with", fix="make it with sk.steer(model, sae)")
        if self.running:
            raise ConfigError("the panel is writing already", fix="call panel.stop() first, or wait")
        self._stop.clear()
        self._failure, self.error, self.status, self.running = None, "", "Reading the prompt…", True
        self._worker = threading.Thread(target=self._work, args=(self._write, self.request), daemon=True)
        self._worker.start()
        if wait:
            try:
                self._worker.join()
            except KeyboardInterrupt:
                self.stop(wait=True)
                raise
            if self._failure is not None:
                raise self._failure
        return self

    def stop(self, *, wait: bool = False) -> None:
        """Ends the run before its next token."""
        self._stop.set()
        if wait and self._worker is not None:
            self._worker.join()

    def page_state(self) -> dict[str, Any]:
        return {**super().page_state(), "live": False, "running": False}

    def text(self) -> str:
        """The settings and both texts."""
        named = f" ({self.name})" if self.name else ""
        lines = [
            f"SteeringPanel: feature {self.feature}{named} clamped to {self.strength:g}{WORDS[self.unit]}, "
            f"{self.positions} positions",
            f"  prompt   {self.prompt}",
        ]
        texts = (("normal", self.normal_text), ("steered", self.steered_text))
        lines += [f"  {title:<8} {words}" for title, words in texts if words]
        return "\n".join([*lines, *([f"  error    {self.error}"] if self.error else [])])

    def _work(self, write: Write, request: SteeringRequest) -> None:
        """One run, in the worker thread."""
        base = (request.prompt, request.chat, request.max_new_tokens, request.temperature, request.seed)
        names = ["steered_text"] if base == self._normal else ["normal_text", "steered_text"]
        texts = dict.fromkeys(names, "")
        self.done, self.total, self.steered_text = 0, len(names) * request.max_new_tokens, ""
        if "normal_text" in names:
            self.normal_text, self._normal = "", None
        try:
            open_texts = {name: write(request, name == "steered_text", self._stop.is_set) for name in names}
            while open_texts and not self._stop.is_set():
                for name in list(open_texts):
                    token = None if self._stop.is_set() else next(open_texts[name], None)
                    if token is None:
                        del open_texts[name]
                        continue
                    texts[name] += token.text
                    self.done += 1
                    setattr(self, name, texts[name])
                    self.status = f"{self.done} of at most {self.total} tokens"
            if self._stop.is_set():
                self.status = f"Stopped after {self.done} tokens."
            else:
                self._normal = base
                self.status = f"Done: {self.done} tokens."
            run = asdict(request) | {
                "name": self.name,
                "normal_text": self.normal_text,
                "steered_text": self.steered_text,
            }
            self.runs = [*self.runs, run]
        except Exception as e:  # whatever it was, the person at the panel must read it
            self._failure = e
            self.error = str(e) if isinstance(e, SaekitError) else f"{type(e).__name__}: {e}"
            self.status = ""
        finally:
            self.running = False

    def _name_feature(self) -> None:
        if self._describe is not None:
            self.name, self.feature_max = self._describe(self.feature)

    def _on_message(self, _: Any, content: Any, buffers: Any) -> None:
        kind = content.get("kind") if isinstance(content, dict) else None
        if kind == "run" and not self.running:
            self.run()
        elif kind == "stop":
            self.stop()


def steer(
    model: LanguageModel,
    sae: SAE,
    feature: int | None = None,
    *,
    index: FeatureIndex | None = None,
    prompt: str = "Who are you?",
    **traits: Any,
) -> SteeringPanel:
    """A SteeringPanel that clamps one feature of `sae` while `model` writes.

    With `index`, the feature is named by the tokens it promotes and strength can be given in multiples of its maximum.
    Further keywords set traits of the panel: strength, unit, chat, positions, max_new_tokens, temperature, seed. `chat`
    is on unless the model has no chat template. Raises UnknownNameError for a feature the SAE does not have and
    MismatchError for an SAE of another model.

    >>> panel = sk.steer(model, sae, 3, prompt="the cat", chat=False, max_new_tokens=4)
    >>> panel.run(wait=True).running
    False
    >>> panel.normal_text == sk.generate(model, "the cat", max_new_tokens=4).text
    True
    """
    from ..steering import clamp, stream
    from .token_highlight import names_of

    sae.check(model)
    first = 0 if feature is None else check_feature(feature, sae.config.d_sae)

    def write(request: SteeringRequest, steered: bool, stop: Callable[[], bool]) -> Iterator[Written]:
        values = {request.feature: request.strength}
        edits = [clamp(sae, values, unit=request.unit, positions=request.positions, index=index)] if steered else []
        return stream(
            model, request.prompt, edits=edits, max_new_tokens=request.max_new_tokens, temperature=request.temperature,
            seed=request.seed, chat=request.chat, stop=stop,
        )  # fmt: skip

    def describe(i: int) -> tuple[str, float]:
        return ("", 0.0) if index is None else (names_of(index, [i])[str(i)], float(index.features["max"][i]))

    has_template = getattr(model.tokenizer, "chat_template", None) is not None
    units = [unit for unit in UNITS if unit != "max" or index is not None]
    settings = {"chat": has_template, "units": units, **traits}
    return SteeringPanel(write, describe, feature=first, n_features=sae.config.d_sae, prompt=prompt, **settings)
