"""Which package indexes to ask, as the user's pip or uv is set: environment variables first, then pip's files."""

from __future__ import annotations

import configparser
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import platformdirs

DEFAULT_INDEX = "https://pypi.org/simple"


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """Where to look for a package and how."""

    indexes: tuple[str, ...]
    """Roots of simple repositories, in order."""
    links: tuple[str, ...] = ()
    """Folders and pages with links to files (find-links)."""
    certificates: str | None = None
    """A file of trusted certificates; None for the system's."""
    timeout: float = 15.0
    """Seconds that a server may stay silent."""
    pause: float = 0.5
    """Seconds before the second try, twice as many before each further one."""

    def places(self, project: str) -> list[str]:
        """Folders and pages that may list the files of `project`.

        >>> from saekit.models.index_settings import IndexSettings
        >>> IndexSettings(indexes=("https://pypi.org/simple",)).places("numpy")
        ['https://pypi.org/simple/numpy/']
        """
        return [*self.links, *(f"{index.rstrip('/')}/{project}/" for index in self.indexes)]


def index_settings() -> IndexSettings:
    """What the environment, and below it pip's configuration, say."""
    pip, env = _pip_configuration(), os.environ

    def first(option: str, *variables: str) -> str:
        values = [env.get(name, "").strip() for name in variables]
        return next((v for v in values if v), pip.get(option, "").strip())

    off = {first("no-index", "PIP_NO_INDEX", "UV_NO_INDEX").lower(), env.get("UV_OFFLINE", "").lower()}
    main = first("index-url", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL") or DEFAULT_INDEX
    more = first("extra-index-url", "PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL").split()
    timeout = first("default-timeout", "PIP_DEFAULT_TIMEOUT", "PIP_TIMEOUT", "UV_HTTP_TIMEOUT") or pip.get(
        "timeout", ""
    )
    certificates = first("cert", "PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
    usable = certificates and Path(certificates).is_file()
    return IndexSettings(
        indexes=() if off & {"1", "true", "yes", "on", "t", "y"} else tuple(_unnamed(url) for url in [main, *more]),
        links=tuple(first("find-links", "PIP_FIND_LINKS", "UV_FIND_LINKS").replace(",", " ").split()),
        certificates=certificates if usable else None,
        timeout=float(timeout) if timeout.replace(".", "", 1).isdigit() else 15.0,
    )


def _unnamed(index: str) -> str:
    """uv writes NAME=URL where an index has a name."""
    name, equals, url = index.partition("=")
    return url if equals and "://" in url and "://" not in name else index


def _pip_configuration() -> dict[str, str]:
    """pip's options by name, later files and `download`'s own section over earlier ones, as pip reads them."""
    special = os.environ.get("PIP_CONFIG_FILE")
    if special == os.devnull:
        return {}
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    folders = [Path(folder) for folder in platformdirs.site_config_dir("pip", False, multipath=True).split(os.pathsep)]
    files = [folder / name for folder in reversed(folders)]
    files += [Path("/etc/pip.conf")] if sys.platform != "win32" else []
    files += [Path.home() / ("pip" if sys.platform == "win32" else ".pip") / name]
    files += [Path(platformdirs.user_config_dir("pip", False, roaming=True)) / name]
    files += [Path.home() / ".config" / "pip" / name] if sys.platform == "darwin" else []
    files += [Path(sys.prefix) / name, *([Path(special)] if special else [])]
    sections: list[dict[str, str]] = [{}, {}]
    for file in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf8")
        except (OSError, configparser.Error, UnicodeDecodeError):
            continue  # pip itself would say so
        for values, section in zip(sections, ("global", "download"), strict=True):
            if parser.has_section(section):
                values.update(parser.items(section))
    return {**sections[0], **sections[1]}
