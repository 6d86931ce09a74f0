"""TokenHighlight: a text whose tokens are coloured by the features that stand out in it, or by one feature.

The widget carries every sparse activation of its text, so any feature can colour it in the browser without a kernel.
It is given arrays, or a function that reads the text in parts; only `highlight` uses a model and an SAE. What stands
out is defined in highlight_standouts.py, how a long text is read in highlight_reading.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import traitlets as t
from typing_extensions import TypedDict

from ..arguments import checks_arguments
from ..errors import DataError, MismatchError, SaekitError, check_feature
from .highlight_reading import ReadWindow, TextSoFar, check_windows, plan_windows, read_windows
from .highlight_reading import pack_rows as pack_rows
from .highlight_standouts import Reference
from .highlight_tables import HighlightTables
from .highlight_text import as_text
from .worker import Worker

if TYPE_CHECKING:
    from ..index import FeatureIndex
    from ..models import LanguageModel
    from ..sae import SAE

SECONDS = 0.5
"""Between two updates of the browser while a text is read."""


class Stop(TypedDict):
    """What the front end's Stop button sends."""

    kind: Literal["stop"]


class TokenHighlight(HighlightTables):
    """Text coloured by the features that stand out in it; the token picked in the browser is `selected`.

    Made by `highlight`. Everything is a live trait: set `colour_by`, `n_features_shown`, `feature` or a filter in
    Python and the colours change, click a token and `selected` follows. While a long text is read in the background,
    what is read is there already; `wait` returns once all is, and `stop` ends reading.
    """

    bundle = "token_highlight"
    messages = Stop

    def __init__(self, read: Callable[[], Iterator[ReadWindow]] | None = None, **kwargs: Any) -> None:
        self._read, self._worker = read, Worker()
        self._failure: BaseException | None = None
        self._measured = "statistics" not in kwargs
        super().__init__(**kwargs)
        if self._measured and not self.explanation:
            self.explanation = Reference().explanation

    def text(self) -> str:
        """What colours the text, the features that stand out, and the tokens one per line."""
        return as_text(self)

    def static_picture(self) -> str:
        from .pictures import highlight_picture

        about, _, _ = self.text().partition("\n")
        return highlight_picture(self.to_frame(), about.removeprefix("TokenHighlight: "), self.names, self.bytes)

    def at_rest(self) -> bool:
        return not self.reading

    # ---- reading a long text ------------------------------------------------------------------------------------

    def start(self, text: TextSoFar, *, wait: bool = False) -> TokenHighlight:
        """The widget itself, its text being read in the background, or already with `wait`."""
        self._failure = None
        self.reading, self.error, self.status = True, "", f"Reading {text.n_tokens:,} tokens…"
        self._worker.start(lambda: self._work(text), wait=wait)
        return self.wait() if wait else self

    def wait(self) -> TokenHighlight:
        """The widget itself, once its text is read; what went wrong is raised.

        An interrupt stops reading after the window it is at, and is raised; what was read stays.
        """
        self._worker.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self, *, wait: bool = False) -> None:
        """Ends reading after the window it is at; what was read stays."""
        self._worker.stop()
        if wait:
            self._worker.wait()

    def receive(self, message: Mapping[str, Any]) -> None:
        self.stop()

    def page_state(self) -> dict[str, Any]:
        return {**super().page_state(), "reading": False}

    def _work(self, text: TextSoFar) -> None:
        """Reads the text, in the worker's thread."""
        began = sent = time.perf_counter()
        try:
            for part in self._read() if self._read is not None else ():
                text.add(part)
                now = time.perf_counter()
                if now - sent >= SECONDS or text.n_read == text.n_tokens or self._worker.stopped():
                    rate = text.n_read / max(now - began, 1e-9)
                    left = f"{(text.n_tokens - text.n_read) / rate:.0f} s left"
                    sent = now
                    self._take(text, f"{text.n_read:,} of {text.n_tokens:,} tokens, {rate:,.0f} a second, {left}")
                if self._worker.stopped():
                    break
            seconds = time.perf_counter() - began
            how = f"Stopped after {text.n_read:,} of" if text.n_read < text.n_tokens else "Read"
            self.status = f"{how} {text.n_tokens:,} tokens in {seconds:.1f} s."
        except BaseException as e:  # in a thread: whatever it is must be shown
            self._failure = e
            self._take(text, f"{text.n_read:,} of {text.n_tokens:,} tokens were read.")
            self.error = str(e) if isinstance(e, SaekitError) else f"{type(e).__name__}: {e}"
        finally:
            self.reading = False
            self.update_picture()

    def _take(self, text: TextSoFar, status: str) -> None:
        traits = text.traits()
        with self.hold_sync():
            for name, value in traits.items():
                setattr(self, name, value)
            self.status = status

    # ---- state that follows other state -------------------------------------------------------------------------

    @t.observe("feature")
    def _colour_by_feature(self, change: Any) -> None:
        if change["new"] is not None:
            self.colour_by = "feature"
        elif self.colour_by == "feature":
            self.colour_by = "standout"

    @t.observe("colour_by")
    def _colour_by_others(self, change: Any) -> None:
        if change["new"] != "feature":
            self.feature = None
        elif self.feature is None:
            rows = self._standouts().order()
            self.feature = int(self._statistics().feature[rows[0]]) if len(rows) else 0

    @t.observe("acts", "excluded")
    def _measure(self, _: Any) -> None:
        if self._measured:
            _, feature, value = self._arrays()
            self.statistics = Reference().statistics(feature, value, self.excluded.count("")).packed()


@checks_arguments
def highlight(
    model: LanguageModel,
    sae: SAE,
    text: str,
    feature: int | None = None,
    *,
    index: FeatureIndex | None = None,
    length: int | None = None,
    overlap: int | None = None,
    wait: bool = False,
) -> TokenHighlight:
    """A TokenHighlight of `text`: run through `model` up to the SAE's hook point and encoded there.

    Colours by what stands out in the text (`TokenHighlight.standouts`), or by `feature`. With `index`, activations are
    relative to each feature's maximum there, rarity is that of its text, and features have names; without, they are
    relative to the strongest in the text, and rarity is the SAE's stored density or the text's own. Special tokens and
    attention sinks, which the token filter leaves out (`resolve_token_filter` where none is stored), are shown muted
    and carry no activations.

    A text of at most 1,024 tokens (`length`, where that is given, or the model's context, where that is shorter) is run
    whole. A longer one is read in the background, unless `wait`, in windows of 512 tokens (`length`): each begins with
    BOS where the model's texts do and runs the `overlap` tokens before it (a quarter of the length) once more as
    context. `.wait()` returns when all is read, `.stop()` keeps what is.

    Raises DataError for empty text, UnknownNameError for a feature the SAE does not have, MismatchError for an SAE of
    another model or an index of another SAE, and ContextLengthError for a `length` beyond the model's context.

    >>> w = sk.highlight(model, sae, "a cat")
    >>> w.tokens
    ['<bos>', 'a', ' ', 'c', 'a', 't']
    >>> w.selected = 3
    >>> w.selected_token, len(w.strongest)
    ('c', 4)
    >>> w.n_features_shown = 2
    >>> w.shown_features == w.standouts["feature"].tolist()[:2]
    True
    >>> long = sk.highlight(model, sae, "a cat and a hat " * 20, wait=True)
    >>> len(long.tokens) > model.n_ctx, long.n_read == len(long.tokens)
    (True, True)
    """
    if not isinstance(text, str) or not text.strip():
        raise DataError("there is no text to show", got=repr(text), accepted="a string that is not empty")
    d_sae = sae.config.d_sae
    if feature is not None:
        feature = check_feature(feature, d_sae)
    sizes = check_windows(model, length, overlap)
    sae.check(model)
    if sae.config.hook_name is None:
        raise DataError(
            "the SAE does not name the hook point it reads", got="hook_name=None", fix="set hook_name in its SAEConfig"
        )
    if index is not None and index.sae_fingerprint != sae.fingerprint:
        raise MismatchError(
            "the index was built with another SAE",
            got=index.sae_fingerprint,
            accepted=sae.fingerprint,
            fix="pass the index of this SAE, or none",
        )
    ids, strings = model.tokenize_with_strings(text, sae.config.prepend_bos)
    plan = plan_windows(model, ids, sae.config.prepend_bos, *sizes)
    reference = Reference.of(index, sae)
    so_far = TextSoFar(len(ids), reference, None if index is None else lambda features: names_of(index, features))
    at_once = len(plan.windows) == 1
    if at_once:
        for part in read_windows(model, sae, ids, plan):
            so_far.add(part)
    w = TokenHighlight(
        lambda: read_windows(model, sae, ids, plan),
        n_features=d_sae,
        tokens=strings,
        bytes={str(n): model.vocabulary.shown[i] for n, i in enumerate(ids) if model.vocabulary.partial[i]},
        maxima_from=reference.maxima_from,
        explanation=f"{reference.explanation} {plan.describe()}".rstrip(),
        feature=feature,
        **so_far.traits(),
    )
    return w if at_once else w.start(so_far, wait=wait)


def names_of(index: FeatureIndex | None, features: list[int]) -> dict[str, str]:
    """What features are called by the index: labels, or what they fire on; nothing without one."""
    return {} if index is None else {str(i): index.name(i) for i in features}
