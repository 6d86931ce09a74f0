"""The bytes and the text of files, compressed or not, in any encoding; what cannot be decoded is found and named."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from ..errors import ConfigError, DataError, FileError

_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.GzipFile,
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": lambda path: pa.input_stream(str(path), compression="zstd"),
}
COMPRESSIONS = tuple(_OPENERS)
_BOMS = (  # the longer first: UTF-32 begins as UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHUNK = 1 << 20


def _opened(path: Path) -> Any:
    opener = _OPENERS.get(path.suffix.lower())
    return path.open("rb") if opener is None else opener(path)


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed as its ending says; FileError when it is cut short or damaged."""
    try:
        with _opened(path) as f:
            yield cast(IO[bytes], f)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as e:
        raise _damaged(path, e) from e
    except OSError as e:
        if e.errno is None and path.suffix.lower() in COMPRESSIONS and not isinstance(e, FileError):
            raise _damaged(path, e) from e
        raise


@contextmanager
def open_text(path: Path, encoding: str | None = None, newline: str | None = None) -> Iterator[io.TextIOWrapper]:
    """The text of a file: in `encoding`, else as its byte order mark says, else in UTF-8.

    ConfigError for an unknown encoding; DataError that names the first byte which is not of the encoding.
    """
    if encoding is not None:
        check_encoding(encoding)
    with open_bytes(path) as f:
        start = f.read(4)
    used = encoding or next((name for mark, name in _BOMS if start.startswith(mark)), "utf-8")
    if encoding is not None and codecs.lookup(encoding).name == "utf-8":
        used = "utf-8-sig"
    try:
        with open_bytes(path) as f, io.TextIOWrapper(cast(Any, f), encoding=used, newline=newline) as text:
            yield text
    except UnicodeDecodeError as e:
        raise _undecodable(path, used, encoding is None and used == "utf-8") from e


def check_encoding(encoding: str) -> None:
    """ConfigError when there is no such encoding of text."""
    try:
        "".encode(encoding)
    except (LookupError, TypeError) as e:
        raise ConfigError(
            f"unknown encoding {encoding!r}",
            got=encoding,
            accepted="an encoding of text that Python knows: utf-8, utf-16, latin-1, cp1252, gb18030, shift_jis, ...",
            fix="leave encoding= out for UTF-8",
        ) from e


def _undecodable(path: Path, encoding: str, assumed: bool) -> DataError:
    decoder = codecs.getincrementaldecoder(encoding)()
    read = lines = 0
    byte, at = 0, 0
    with open_bytes(path) as f:
        try:
            while data := f.read(_CHUNK):
                read += len(data)
                lines += decoder.decode(data).count("\n")
            decoder.decode(b"", True)
        except UnicodeDecodeError as e:
            at, byte = read - len(e.object) + e.start, e.object[e.start]
            lines += e.object[: e.start].count(b"\n")
    name = encoding.upper().removesuffix("-SIG")
    return DataError(
        f"{path.name} is not {name}: byte {at} is 0x{byte:02X}, in line {lines + 1}",
        got=f"0x{byte:02X}",
        accepted="text in UTF-8, in UTF-16 with its byte order mark, or in the encoding that encoding= names"
        if assumed
        else f"text in {name}",
        fix='pass encoding="cp1252" (Western Windows), "latin-1" or whatever the file was written in',
    )


def _damaged(path: Path, e: Exception) -> FileError:
    return FileError(
        f"{path.name} is not a whole {path.suffix} file", got=e, accepted="a complete file", fix="fetch it again"
    )
