"""What all widgets share: their bundle, keywords that cannot be misspelt, a text form, and binary traits.

Widgets hold state and nothing else; whatever needs a model or an index is a callable they are given. The front end is
in widgets/src, one entry per widget.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import numpy as np

from ..errors import ConfigError, UnknownKeywordError, unknown_name

STATIC = Path(__file__).resolve().parent.parent / "static"
WIDGETS: dict[str, type[Widget]] = {}
"""Every widget by its bundle: those of saekit/widgets/__init__.py, and those defined elsewhere."""
SEPARATOR = "\x1f"  # between strings in one binary trait


class Widget(anywidget.AnyWidget):
    """Base of saekit's widgets. A subclass with a `bundle` is one of WIDGETS from then on."""

    bundle: ClassVar[str] = ""
    """Name of its .js and .css."""
    static: ClassVar[Path] = STATIC
    """The folder they lie in."""

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

    def text(self) -> str:
        """The widget's value as plain text."""
        return type(self).__name__

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return self.text()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return {"text/plain": self.text()}
        data, metadata = bundle
        return {**data, "text/plain": self.text()}, metadata

    def page_state(self) -> dict[str, Any]:
        """The state a page without a kernel needs: this widget's own synced traits, as they are now."""
        return {name: getattr(self, name) for name in self.own_traits() if self.trait_metadata(name, "sync")}

    def page_scripts(self) -> tuple[str, ...]:
        """Scripts that an offline page needs before its own for this widget, such as a library's."""
        return ()

    def own_traits(self) -> list[str]:
        """Names of the traits that saekit defines, without those of ipywidgets."""
        traits = self.traits().items()
        return [n for n, trait in traits if issubclass(trait.this_class, Widget) and not n.startswith("_")]


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


def shown(token: str) -> str:
    """A token on one line of text: line breaks and tabs as glyphs, other control characters as spaces."""
    glyphs = {"\n": "↵", "\r": "␍", "\t": "⇥"}
    return "".join(glyphs.get(c, c if c.isprintable() else " ") for c in token)
