"""JSON files, read: whatever is wrong in one is a FileError with the file, the field, the value seen and what to do.

Each kind of file has a schema, a TypedDict beside the code that reads it, which pydantic checks without converting
anything. saekit's own files also hold a checksum of all else in them (`sealed`), which finds one altered digit too.
"""

from __future__ import annotations

import functools
import hashlib
import json
import pickle
import struct
import tokenize
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from .errors import FileError, SaekitError, disk_errors

CHECKSUM = "checksum"
"""The key of what a file says of all else in it."""
RESTORE = "the file is damaged: restore it from where it came, or write it again"
FAILURES: tuple[type[Exception], ...] = (
    ValueError,  # UnicodeDecodeError, enums, and what numpy, torch and pyarrow say of shapes and types
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,  # RecursionError too
    MemoryError,
    EOFError,
    SyntaxError,  # of numpy, which reads a header as Python
    tokenize.TokenError,
    struct.error,
    zipfile.BadZipFile,
    pickle.UnpicklingError,
)
"""What Python and its libraries raise when a file does not hold what they expect."""

Count = Annotated[int, Field(ge=1, lt=2**53)]
Natural = Annotated[int, Field(ge=0, lt=2**53)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Hooks = str | list[str]


def read_json(path: str | Path, schema: Any = Any, *, fix: str = RESTORE) -> Any:
    """The JSON value in `path`; FileError where it is missing, damaged, altered, or not as `schema` says.

    >>> (tmp_path / "a.json").write_text('{"k": "many"}')
    13
    >>> from saekit.json_files import Count, read_json
    >>> read_json(tmp_path / "a.json", dict[str, Count])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    saekit.errors.FileError: ...a.json holds a value that is not accepted at k
      seen:     'many'
      accepted: a valid integer
      fix:      the file is damaged: restore it from where it came, or write it again
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"no file {path}", got=path, accepted="a file that saekit wrote", fix="check the path")
    with disk_errors(path):
        content = path.read_bytes()
    return checked(parsed(content, path, fix=fix), schema, path, fix=fix)


def read_sealed(path: str | Path, schema: Any = Any, *, fix: str = RESTORE) -> Any:
    """The JSON object in a file that saekit wrote, `sealed`; FileError as of `read_json`, and where it was altered.

    >>> from saekit.atomic_io import write_json
    >>> from saekit.json_files import read_sealed, sealed
    >>> write_json(tmp_path / "a.json", {**sealed({"k": 8}), "k": 9})
    >>> read_sealed(tmp_path / "a.json")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    saekit.errors.FileError: ...a.json was altered: its own checksum does not match
    ...
    """
    value = read_json(path, schema, fix=fix)
    check_seal(value, path, fix=fix)
    return value


def read_yaml(path: str | Path, schema: Any = Any, *, fix: str = RESTORE) -> Any:
    """The value in a YAML file; FileError as of `read_json`. Aliases, which can stand for more than any memory holds,
    are refused."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError("it has aliases (*name); write the value out")
            return super().compose_node(parent, index)

    path = Path(path)
    with disk_errors(path):
        content = path.read_bytes()
    with damaged(path, fix=fix, also=(yaml.YAMLError,)):
        value = yaml.load(content.decode("utf8"), Loader)
    return checked(value, schema, path, fix=fix)


def parsed(content: str | bytes, where: object, *, fix: str = RESTORE) -> Any:
    """The JSON value of a text; FileError, naming `where`, for invalid UTF-8, JSON, surrogates or 200 levels."""
    try:
        return from_json(content)
    except (ValueError, UnicodeError) as e:
        shown = content[:80] if isinstance(content, str) else content[:80].decode("utf8", "replace")
        raise FileError(
            f"{where} is not valid JSON: {e}",
            got=repr(shown),
            accepted="JSON in UTF-8, at most 200 levels deep",
            fix=fix,
        ) from e


def checked(value: Any, schema: Any, where: object, *, fix: str = RESTORE) -> Any:
    """`value` as it is; FileError with the first field of it that is not as `schema` says."""
    try:
        _adapter(schema).validate_python(value, strict=True)
    except ValidationError as e:
        first = e.errors(include_url=False, include_context=False)[0]
        field, lacks = _field(value, first["loc"]), first["type"] == "missing"
        says = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        raise FileError(
            f"{where} lacks {field}" if lacks else f"{where} holds a value that is not accepted at {field}",
            got=None if lacks else f"{first['input']!r:.200}",
            accepted="a file with it" if lacks else says,
            fix=fix,
        ) from e
    return value


@functools.cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)


def _field(value: Any, places: Sequence[str | int]) -> str:
    """A place as `shards[0].bytes`, without the branches of a union that pydantic puts in between."""
    said = ""
    for place in places:
        there = isinstance(value, list) if isinstance(place, int) else isinstance(value, dict)
        if not there:
            continue
        said += f"[{place}]" if isinstance(place, int) else f".{place}" if said else str(place)
        try:
            value = value[place]
        except LookupError:
            break
    return said or "the top"


def digest_of(value: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of a JSON object, its own checksum apart; the order of keys and the layout play no part."""
    rest = {str(name): v for name, v in value.items() if name != CHECKSUM}
    text = json.dumps(json.loads(json.dumps(rest)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with a checksum of all else in it, which `read_sealed` compares.

    >>> from saekit.json_files import sealed
    >>> sealed({"k": 8})
    {'k': 8, 'checksum': 'b2cfb88a4a556552'}
    """
    rest = {name: v for name, v in value.items() if name != CHECKSUM}
    return {**rest, CHECKSUM: digest_of(rest)}


def check_seal(value: Any, where: object, *, fix: str = RESTORE) -> None:
    """FileError for an object whose checksum is of another content. One without a checksum is taken as it is."""
    if not isinstance(value, dict):
        return
    if altered := [name for name in value if len(name) == len(CHECKSUM) and _n_different(name, CHECKSUM) == 1]:
        raise FileError(
            f"{where} was altered: its checksum has another name", got=altered[0], accepted=CHECKSUM, fix=fix
        )
    if CHECKSUM not in value:
        return
    if value[CHECKSUM] != (found := digest_of(value)):
        raise FileError(
            f"{where} was altered: its own checksum does not match",
            got=f"checksum {value[CHECKSUM]!r:.40}",
            accepted=found,
            fix=f'{fix}; if you changed it on purpose, take the line "{CHECKSUM}" out of it',
        )


def _n_different(a: str, b: str) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


@contextmanager
def damaged(where: object, *, fix: str = RESTORE, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turns what libraries raise over a file that does not hold what they expect into a FileError that names it.

    `also` are error classes of the library that reads it: safetensors.SafetensorError, pyarrow.ArrowException.
    """
    try:
        yield
    except SaekitError:
        raise
    except (*FAILURES, *also) as e:
        said = str(e).split("\n", 1)[0][:200]
        raise FileError(
            f"{where} does not hold what it should", got=f"{type(e).__name__}: {said}", accepted="a whole file", fix=fix
        ) from e


def inside(folder: Path, name: str, where: object, accepts: Callable[[str], bool] = lambda name: True) -> Path:
    """The path of a file that `where` lists, which lies in `folder` itself; FileError for a name that leads elsewhere.

    >>> from saekit.json_files import inside
    >>> inside(tmp_path, "../other", "manifest.json")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    saekit.errors.FileError: manifest.json names a file outside its folder
    ...
    """
    if Path(name).name != name or name in ("", ".", "..") or "\\" in name or "\0" in name or not accepts(name):
        raise FileError(
            f"{where} names a file outside its folder" if "/" in name else f"{where} names a file that it cannot have",
            got=repr(name),
            accepted=f"a file in {folder}",
            fix=RESTORE,
        )
    return folder / name
