"""How one row of a source becomes a document: which field is the text, which are labels.

A text is a string, a conversation (a list of turns {"role": ..., "content": ...}) or a list of token ids. A field in a
field is named with dots, "message.content".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..errors import DataError, unknown_name
from .documents import Document, Turn

Row = tuple[str, object]
"""(where the row is, for messages; the row: a str, a mapping, token ids, turns or a Document)"""


def make_document(row: object, where: str, text: str, labels: Sequence[str] | None) -> Document:
    """One row as a document; every check of a row is here."""
    if isinstance(row, Document):
        kept = row.labels if labels is None else {c: found(row.labels, c, where, "label") for c in labels}
        return row if labels is None else Document(row.text, kept, row.turns, row.token_ids)
    if not isinstance(row, Mapping) or _is_turn_columns(row):
        value, row = row, {}
    else:
        value = found(row, text, where, "text")
    content = _content(value, where)
    if labels is None:
        root = text if text in row else text.partition(".")[0]
        named = {str(c): v for c, v in row.items() if c != root}
    else:
        named = {c: found(row, c, where, "label") for c in labels}
    plain = {c: _plain(v) for c, v in named.items()}
    return Document(labels={c: v for c, v in plain.items() if _is_label(v)}, **content)


def found(row: Mapping[Any, Any], name: str, where: str, kind: str) -> Any:
    """The value of a column, or of a field in it; UnknownNameError with the columns there are.

    >>> from saekit.corpus.rows import found
    >>> found({"message": {"content": "hello"}}, "message.content", "row 0", "text")
    'hello'
    >>> found({"turns": [{"said": "one"}, {"said": "two"}]}, "turns.said", "row 0", "text")
    'one\\ntwo'
    """
    if name in row:
        return row[name]
    value: Any = row
    seen = ""
    parts = name.split(".")
    for i, part in enumerate(parts):
        if isinstance(value, list | tuple | np.ndarray) and not part.isdecimal():
            rest = ".".join(parts[i:])
            several = [found(v, rest, f"{where}, {seen}", kind) for v in value if isinstance(v, Mapping)]
            if several and all(isinstance(v, str) for v in several):
                return "\n".join(several)
            return several
        try:
            value = value[int(part)] if isinstance(value, list | tuple | np.ndarray) else value[part]
        except (KeyError, IndexError, TypeError):
            inside = [f"{seen}{k}" for k in value] if isinstance(value, Mapping) else []
            if not inside and isinstance(value, list | tuple | np.ndarray):
                inside = [f"{seen}{k}" for k in range(len(value))]
            raise unknown_name(
                f"{kind} column of {where}:",
                name,
                inside or map(str, row),
                fix=f"pass {'text=' if kind == 'text' else 'labels='} with the column's name",
            ) from None
        seen = f"{seen}{part}."
    return value


def _content(value: object, where: str) -> dict[str, Any]:
    """The fields of a Document that hold what it says."""
    if isinstance(value, str):
        return {"text": str(value)}
    turns = _turns(value)
    if turns:
        return {"text": "\n".join(f"{t['role']}: {t['content'] or ''}" for t in turns), "turns": turns}
    if (ids := _token_ids(value)) is not None:
        return {"text": "", "token_ids": ids}
    raise DataError(
        f"the text of {where} is not a string",
        got=f"{type(value).__name__}: {value!r:.80}",
        accepted='a string, a list of turns {"role": ..., "content": ...}, or a list of token ids',
        fix="convert or drop it, or pass text= with another column's name",
    )


def _is_turn_columns(value: object) -> bool:
    """Whether these are turns as datasets of earlier versions hold them, one list of roles and one of contents."""
    return (
        isinstance(value, Mapping)
        and {"role", "content"} <= set(value)
        and all(isinstance(value[k], list) and len(value[k]) == len(value["role"]) for k in ("role", "content"))
    )


def _turns(value: object) -> tuple[Turn, ...]:
    """The turns of a conversation, none when this is no conversation."""
    if _is_turn_columns(value):
        assert isinstance(value, Mapping)
        value = [{"role": role, "content": said} for role, said in zip(value["role"], value["content"], strict=True)]
    if not isinstance(value, list | tuple | np.ndarray) or not len(value):
        return ()
    if not all(isinstance(t, Mapping) and isinstance(t.get("role"), str) and "content" in t for t in value):
        return ()
    return tuple({str(k): v for k, v in t.items() if v is not None or k == "content"} for t in value)


def _token_ids(value: object) -> tuple[int, ...] | None:
    """Whole numbers as token ids; None when this is something else."""
    if isinstance(value, torch.Tensor):
        value = value.numpy(force=True)
    if isinstance(value, np.ndarray) and value.ndim == 1 and (value.dtype.kind in "iu" or not len(value)):
        return tuple(value.tolist())
    if isinstance(value, list | tuple | np.ndarray) and all(
        isinstance(i, int | np.integer) and not isinstance(i, bool) for i in value
    ):
        return tuple(int(i) for i in value)
    return None


def _plain(value: Any) -> Any:
    """A value of numpy as one of Python; text without halves of characters, which no file can hold."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _is_label(value: object) -> bool:
    return isinstance(value, str | int | float | bool) and value == value
