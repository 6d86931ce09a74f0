"""Takes one file of known name and SHA-256 from a Python package index, without pip.

Asks the indexes and folders that pip or uv would ask, by their settings, through the simple API
(https://packaging.python.org/en/latest/specifications/simple-repository-api/, HTML or JSON). The digest is fixed
beforehand, so where the file comes from does not matter. A download that breaks off is continued where it stopped.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import netrc
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit

from tqdm.auto import tqdm
from typing_extensions import TypedDict

from ..atomic_io import sha256
from ..errors import FileError
from ..json_files import checked, parsed
from .index_settings import IndexSettings, index_settings

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
TRIES = 4
"""Of each request; no connection at all is final, since waiting does not mend it."""
CHUNK = 1 << 18


class Link(TypedDict, total=False):
    """One file of an index's answer in JSON."""

    filename: str
    url: str
    hashes: dict[str, str]


class Listing(TypedDict):
    """An index's answer in JSON."""

    files: list[Link]


def fetch_file(project: str, filename: str, digest: str, folder: Path) -> Path:
    """`filename` of `project`, downloaded into `folder` and checked against its SHA-256.

    FileError when no index has it, or none can be reached; the message gives each one's own reason.
    """
    settings = index_settings()
    target, reasons = folder / filename, []
    for place in settings.places(project):
        try:
            for url, offered in _links(place, filename, settings):
                if offered not in (None, digest):
                    reasons.append(f"{_shown(place)} has another {filename}")
                    continue
                _download(url, target, settings)
                if sha256(target) == digest:
                    return target
                target.unlink()
                reasons.append(f"{_shown(place)} sent another {filename} than the expected one")
                break
            else:
                reasons.append(f"{_shown(place)} does not have {filename}")
        except _NoAnswerError as e:
            reasons.append(f"{_shown(place)}: {e}")
    raise FileError(
        "; ".join(dict.fromkeys(reasons)) or "no package index to ask: PIP_NO_INDEX or UV_NO_INDEX is set",
        got=f"{project}: {filename}",
    )


class _NoAnswerError(Exception):
    """A place that could not be read; the text says why."""


class _BrokenOffError(Exception):
    """A download that stopped before its end."""


def _links(place: str, filename: str, settings: IndexSettings) -> Iterator[tuple[str, str | None]]:
    """Address and SHA-256, where one is given, of every link on a page or in a folder that leads to `filename`."""
    folder = _local(place)
    if folder is not None and folder.is_dir() and not (folder / "index.html").is_file():
        if (folder / filename).is_file():
            yield (folder / filename).as_uri(), None
        return
    with _open((folder / "index.html").as_uri() if folder and folder.is_dir() else place, settings) as answer:
        body, base = answer.read(), answer.geturl()
        kind = answer.headers.get("Content-Type") or ""
    if "json" in kind:
        try:
            files = checked(parsed(body, "its answer"), Listing, "its answer")["files"]
        except FileError as e:
            raise _NoAnswerError("its answer is no list of files") from e
        for file in files:
            if file.get("filename") == filename and "url" in file:
                yield urljoin(base, file["url"]), file.get("hashes", {}).get("sha256")
        return
    for href in _Anchors(body.decode("utf8", "replace")).hrefs:
        url, fragment = urldefrag(urljoin(base, href))
        if unquote(urlsplit(url).path).rsplit("/", 1)[-1] == filename:
            yield url, fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None


class _Anchors(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.hrefs += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _download(url: str, target: Path, settings: IndexSettings) -> None:
    """Writes `url` into `target`; each try after the first asks for what is still missing."""
    target.unlink(missing_ok=True)
    with tqdm(desc=target.name, unit="B", unit_scale=True, unit_divisor=1024) as bar:
        for left in reversed(range(TRIES)):
            try:
                _download_rest(url, target, settings, bar)
                break
            except _BrokenOffError as e:
                if not left:
                    raise _NoAnswerError(f"the download broke off {TRIES} times ({e})") from e
                _wait(settings, left)


def _download_rest(url: str, target: Path, settings: IndexSettings, bar: Any) -> None:
    done = target.stat().st_size if target.exists() else 0
    with _open(url, settings, start=done) as answer:
        if done and answer.status != 206:  # it sends the whole file again
            done = 0
        length = answer.headers.get("Content-Length")
        bar.total, bar.n = done + int(length) if length else None, done
        bar.refresh()
        with target.open("ab" if done else "wb") as out:
            while chunk := _read(answer):
                out.write(chunk)
                bar.update(len(chunk))
        if bar.total and bar.n < bar.total:
            raise _BrokenOffError(f"{bar.n} of {bar.total} bytes came")


def _read(answer: Any) -> bytes:
    try:
        return bytes(answer.read(CHUNK))
    except (OSError, HTTPException) as e:
        raise _BrokenOffError(str(e) or type(e).__name__) from e


def _wait(settings: IndexSettings, left: int) -> None:
    time.sleep(min(2.0, settings.pause * 2 ** (TRIES - 1 - left)))


@contextlib.contextmanager
def _open(url: str, settings: IndexSettings, start: int = 0) -> Iterator[Any]:
    """An answer with status and headers; _NoAnswerError with the reason, after some tries where that may help."""
    request = urllib.request.Request(_without_credentials(url), headers={"Accept": ACCEPT, "User-Agent": "saekit"})
    if login := _credentials(url):
        request.add_unredirected_header("Authorization", login)
    if start:
        request.add_header("Range", f"bytes={start}-")
    for left in reversed(range(TRIES)):
        try:
            answer = urllib.request.urlopen(
                request, timeout=settings.timeout, context=_certificates(settings.certificates)
            )
            break
        except urllib.error.HTTPError as e:
            if (e.code not in (408, 429) and e.code < 500) or not left:
                raise _NoAnswerError(f"it answered {e.code} {e.reason}") from e
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as e:
            reason = getattr(e, "reason", e)
            if not isinstance(reason, (ConnectionResetError, HTTPException)) or not left:
                raise _NoAnswerError(f"no connection ({reason or type(reason).__name__})") from e
        _wait(settings, left)
    with answer:
        yield answer


@functools.cache
def _certificates(file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=file)
    if file is None:
        with contextlib.suppress(ImportError):  # some builds of Python come without certificates of their own
            import certifi

            context.load_verify_locations(certifi.where())
    return context


def _credentials(url: str) -> str | None:
    """The Authorization header for a name and password in the address, or in the user's netrc file."""
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not user and parts.hostname:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            entry = netrc.netrc(os.environ.get("NETRC")).authenticators(parts.hostname)
            user, password = (entry[0], entry[2] or "") if entry else ("", "")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if user else None


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]))


def _shown(place: str) -> str:
    """An address as messages show it: without a password."""
    return _without_credentials(place)


def _local(place: str) -> Path | None:
    if place.startswith("file:"):
        return Path(urllib.request.url2pathname(urlsplit(place).path))
    return None if "://" in place else Path(place).expanduser()
