"""What all widgets share: their bundle, keywords that cannot be misspelt, a text form, and binary traits.

Widgets hold state and nothing else; whatever needs a model or an index is a callable they are given. The front end is
in widgets/src, one entry per widget. It may set the traits that are tagged `browser=True` (of a widget from outside
saekit, all that are not tagged False) and send what `messages` says. A value that is refused, from Python or from the
browser, leaves the old one; the browser is told why in `refused`. A ping is answered at once, so that a front end knows
whether its kernel listens. Beside each live view a notebook keeps a static picture (shown_picture.py).
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import numpy as np
import traitlets as t

from ..errors import ConfigError, SaekitError, UnknownKeywordError, trait_error, unknown_name
from .markdown import escape
from .messages import is_ping, read_message
from .shown_picture import ShownPicture, in_a_notebook

STATIC = Path(__file__).resolve().parent.parent / "static"
WIDGETS: dict[str, type[Widget]] = {}
"""Every widget by its bundle: those of saekit/widgets/__init__.py, and those defined elsewhere."""
PAGELESS = ("refused", "picture_id")
"""Traits that are about the notebook, and no part of a page."""
SEPARATOR = "\x1f"  # between strings in one binary trait


class Widget(anywidget.AnyWidget):
    """Base of saekit's widgets. A subclass with a `bundle` is one of WIDGETS from then on."""

    bundle: ClassVar[str] = ""
    """Name of its .js and .css."""
    static: ClassVar[Path] = STATIC
    """The folder they lie in."""
    messages: ClassVar[Any] = None
    """The schema of what its front end sends, None where it sends nothing; see messages.py."""

    refused = t.Unicode("", help="Why what the browser last set or sent was refused; empty when it was not.").tag(
        sync=True
    )
    picture_id = t.Unicode(help="Name of the static picture beside the views; they hide it.").tag(sync=True)

    @t.default("picture_id")
    def _picture_id(self) -> str:
        return uuid.uuid4().hex[:12]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if cls.bundle:
            WIDGETS[cls.bundle] = cls
            if "_esm" not in cls.__dict__:
                cls._esm = cls.static / f"{cls.bundle}.js"
            if "_css" not in cls.__dict__:
                cls._css = cls.static / f"{cls.bundle}.css"
        super().__init_subclass__(**kwargs)

    def __init__(self, **kwargs: Any) -> None:
        for name in kwargs:
            if name.startswith("_") or not self.has_trait(name):
                what = unknown_name("keyword", name, self.own_traits())
                raise UnknownKeywordError(f"{type(self).__name__}(): {what.what}", got=name, accepted=what.accepted)
        super().__init__(**kwargs)
        self._picture = ShownPicture(self)
        self.on_msg(self._on_message)
        self.observe(lambda _: self._picture.changed(), names=self._drawn_traits())

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            super().__setattr__(name, value)
        except t.TraitError as e:
            raise self._error_of(name, value, e) from None

    def set_trait(self, name: str, value: Any) -> None:
        try:
            super().set_trait(name, value)
        except t.TraitError as e:
            raise self._error_of(name, value, e) from None

    def set_state(self, sync_data: Mapping[str, Any]) -> None:
        """Takes what the browser set. What it may not set, or to no such value, it is sent back as it was."""
        accepted, refused = {}, {}
        for name, value in sync_data.items():
            try:
                accepted[name] = self._from_browser(name, value)
            except SaekitError as e:
                refused[name] = str(e)
        super().set_state(accepted)
        self.refused = "\n".join(refused.values())
        if refused:
            self.send_state(list(refused))

    def receive(self, message: Mapping[str, Any]) -> None:
        """Does what a message from the front end says; it is as `messages` says. Errors are shown there."""

    def text(self) -> str:
        """The widget's value as plain text."""
        return type(self).__name__

    def static_picture(self) -> str:
        """The widget as it is now, as HTML without scripts, for where it does not run; here, its text."""
        return _preformatted(self.text())

    def safe_picture(self) -> str:
        """`static_picture`, or the text with a warning where that fails: what is shown must be shown."""
        try:
            return self.static_picture()
        except Exception as e:
            name = type(self).__name__
            warnings.warn(f"the static picture of a {name} failed: {type(e).__name__}: {e}", stacklevel=2)
            return _preformatted(self.text())

    def at_rest(self) -> bool:
        """Whether a static picture drawn now will hold for a while."""
        return True

    def update_picture(self) -> None:
        """Brings the static picture in the notebook up to date now; changed traits do so half a second later."""
        self._picture.update()

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        texts = {"text/plain": self.text(), "text/html": self.safe_picture()}
        if bundle is None:
            return texts
        data, metadata = bundle
        return {**data, **texts}, metadata

    def _ipython_display_(self, **kwargs: Any) -> None:
        if not in_a_notebook():
            print(self.text())
            return
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is not None:
            bundle = {**bundle[0], "text/plain": self.text()}, bundle[1]
        self._picture.show(bundle)

    def page_state(self) -> dict[str, Any]:
        """The state a page without a kernel needs: this widget's own synced traits, as they are now."""
        synced = [name for name in self.own_traits() if self.trait_metadata(name, "sync")]
        synced = [name for name in synced if name not in PAGELESS]
        return {name: getattr(self, name) for name in synced}

    def page_scripts(self) -> tuple[str, ...]:
        """Scripts that an offline page needs before its own for this widget, such as a library's."""
        return ()

    def _from_browser(self, name: str, value: Any) -> Any:
        """The value as the trait takes it, which is not set yet: so none of the others is lost with it."""
        if name not in self.own_traits():
            return value
        if not self.trait_metadata(name, "browser", default=self.static != STATIC):
            raise ConfigError(f"the browser does not set {name}", got=f"{value!r:.200}", fix="set it in Python")
        trait = self.traits()[name]
        try:
            return trait._validate(self, value)
        except t.TraitError as e:
            raise self._error_of(name, value, e) from None

    def _error_of(self, name: str, value: Any, error: t.TraitError) -> t.TraitError:
        """What traitlets says of a value as an error of saekit's too."""
        if isinstance(error, SaekitError):
            return error
        trait = self.traits().get(name)
        accepted = trait.info() if trait is not None else None
        what = f"{type(self).__name__}.{name} is of another type"
        return trait_error(ConfigError(what, got=f"{value!r:.200}", accepted=accepted))  # type: ignore[return-value]

    def _drawn_traits(self) -> list[str]:
        """Traits whose change may change the static picture."""
        return [name for name in self.own_traits() if self.trait_metadata(name, "sync") and name not in PAGELESS]

    def _on_message(self, _: Any, content: Any, buffers: Any) -> None:
        if is_ping(content):
            self.send({"kind": "pong", "n": content["n"]})
            return
        try:
            self.receive(read_message(content, self.messages))
            self.refused = ""
        except SaekitError as e:
            self.refused = str(e)

    def own_traits(self) -> list[str]:
        """Names of the traits that saekit defines, without those of ipywidgets."""
        traits = self.traits().items()
        return [n for n, trait in traits if issubclass(trait.this_class, Widget) and not n.startswith("_")]


def validates(*names: str) -> Callable[[Callable[[Any, Any], Any]], Any]:
    """Makes a method from a value to the one accepted the validator of these traits; its SaekitErrors leave the old."""

    def register(check: Callable[[Any, Any], Any]) -> Any:
        @wraps(check)
        def checked(self: Any, proposal: Any) -> Any:
            try:
                return check(self, proposal["value"])
            except SaekitError as e:
                raise trait_error(e) from None

        return t.validate(*names)(checked)

    return register


def check_choice(name: str, value: str, accepted: Iterable[str]) -> str:
    """`value` itself; UnknownNameError with the nearest when it is not among `accepted`."""
    names = list(accepted)
    if value not in names:
        raise unknown_name(name, value, names)
    return value


def check_at_least(name: str, value: float, least: float) -> float:
    """`value` itself; ConfigError when it is below `least` or not finite."""
    if not least <= value < float("inf"):
        raise ConfigError(f"{name} is too small or not a number", got=value, accepted=f"at least {least:g}")
    return value


def pack(values: Any, dtype: str) -> bytes:
    """Little-endian bytes of a one-dimensional array; a quarter of the size of JSON and read without parsing."""
    return np.ascontiguousarray(values, dtype=np.dtype(dtype).newbyteorder("<")).tobytes()


def pack_strings(values: Iterable[str]) -> bytes:
    """UTF-8 of the strings with a separator between them."""
    return SEPARATOR.join(value.replace(SEPARATOR, " ") for value in values).encode("utf8", "replace")


def _preformatted(text: str) -> str:
    return f'<pre style="white-space:pre-wrap;background:none;color:inherit">{escape(text)}</pre>'


def shown(token: str) -> str:
    """A token on one line of text: line breaks and tabs as glyphs, other control characters as spaces."""
    if token.isprintable():
        return token
    glyphs = {"\n": "↵", "\r": "␍", "\t": "⇥"}
    return "".join(glyphs.get(c, c if c.isprintable() else " ") for c in token)
