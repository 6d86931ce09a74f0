"""Messages from the front end, read by schema: whatever a browser sends becomes a value or an error that says why.

A widget's schema is a union of TypedDicts that differ in `kind`; pydantic checks them without converting anything.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..errors import DataError


def read_message(content: Any, schema: Any) -> dict[str, Any]:
    """The message as `schema` says; DataError for any other, with the field, what was there and what is accepted.

    >>> from typing import Literal
    >>> from typing_extensions import TypedDict
    >>> from saekit.widgets.messages import read_message
    >>> Stop = TypedDict("Stop", {"kind": Literal["stop"]})
    >>> read_message({"kind": "stop"}, Stop)
    {'kind': 'stop'}
    >>> read_message({"kind": "go"}, Stop)
    Traceback (most recent call last):
    saekit.errors.DataError: a message from the browser was not understood (kind)
      seen:     'go'
      accepted: 'stop'
    """
    if schema is None:
        raise DataError("this widget takes no messages from the browser", got=f"{content!r:.200}")
    try:
        message: dict[str, Any] = _adapter(schema).validate_python(content, strict=True)
    except ValidationError as e:
        first = e.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(place) for place in first["loc"]) or "kind"
        says = first["msg"].removeprefix("Input should be ")
        raise DataError(
            f"a message from the browser was not understood ({field})", got=f"{first['input']!r:.200}", accepted=says
        ) from None
    return message


def is_ping(content: Any) -> bool:
    """Whether a message only asks if Python listens: every widget answers it, whatever else it takes."""
    return isinstance(content, dict) and content.get("kind") == "ping" and type(content.get("n")) is int


@cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)
