"""The folder saekit keeps what it can make again in: the default model, outcomes of checks on a device."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The folder saekit keeps things in: $SAEKIT_CACHE, or the user's cache folder.

    >>> from saekit.cache_folder import cache_dir
    >>> cache_dir().is_absolute()
    True
    """
    override = os.environ.get("SAEKIT_CACHE")
    return Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("saekit", False))
