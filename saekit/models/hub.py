"""Finds a model of the Hugging Face hub: in the cache without asking anyone, else at the hub, which is asked once.

What cannot be found is said with its cause, at once: no connection, offline by setting, unknown, gated, no model.
"""

from __future__ import annotations

import difflib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from typing_extensions import TypedDict

from ..errors import FileError, UnknownNameError, unknown_name
from ..json_files import read_json


class PartsIndex(TypedDict):
    """Which file each weight is in."""

    weight_map: dict[str, str]


PATIENCE = 1.5
"""Seconds to wait for a connection to the hub; transformers itself waits and tries again for more than twenty."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "*.model", "*.tiktoken")


def find_on_hub(name: str, known: Callable[[], list[str]]) -> str | Path:
    """The folder in the cache that holds the model `name`, or `name` itself once the hub has confirmed it.

    `known` lists published names, for the nearest. UnknownNameError for a name that the hub does not have, FileError
    for a model that is not in the cache and cannot be fetched, with the reason.
    """
    from huggingface_hub import constants, get_token, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )
    from huggingface_hub.file_download import get_hf_file_metadata
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as e:
        raise unknown_name("model", name, known(), fix="pass a name like owner/model, or a folder that exists") from e
    folder = cached_folder(name)
    if folder is not None and has_weights(folder) and has_tokenizer(folder):
        return folder
    endpoint = str(constants.ENDPOINT)
    lack = "only a part of it is" if folder is not None else "it is not"
    if constants.HF_HUB_OFFLINE:
        if folder is not None and has_weights(folder):
            return folder
        raise _not_here(name, f"HF_HUB_OFFLINE is set, and {lack} in the cache", "unset HF_HUB_OFFLINE", known)
    reason = no_connection(endpoint)
    if reason is not None:
        if folder is not None and has_weights(folder):
            return folder
        raise _not_here(name, f"no connection to {endpoint} ({reason}), and {lack} in the cache", "connect", known)
    try:
        url = hf_hub_url(name, "config.json", endpoint=endpoint)
        get_hf_file_metadata(url, token=get_token(), timeout=10, endpoint=endpoint)
    except GatedRepoError as e:
        raise FileError(
            f"{name} is gated: its owners give access one by one",
            got=_status(e),
            accepted="a login that has been given access",
            fix=f"ask for access at {endpoint}/{name}, then log in with `hf auth login` or set HF_TOKEN",
        ) from e
    except RepositoryNotFoundError as e:
        raise _unknown(name, known, endpoint) from e
    except EntryNotFoundError as e:
        raise FileError(
            f"{name} is on the hub but has no config.json, so it is no model that transformers loads",
            got=name,
            accepted="a repository with config.json and weights",
            fix="for a .gguf file, download it and pass its path; for an adapter, merge it into its model",
        ) from e
    except HfHubHTTPError as e:
        login = " or log in with `hf auth login`" if getattr(e.response, "status_code", 0) in (401, 403) else ""
        raise FileError(f"{endpoint} refused {name}", got=_status(e), fix=f"try again later{login}") from e
    except Exception as e:
        why = f"no answer from {endpoint} ({type(e).__name__}: {e}), and {lack} in the cache"
        raise _not_here(name, why, "connect", known) from e
    return name


def cached_folder(name: str) -> Path | None:
    """The snapshot of `name` in the hub's cache, as far as it is there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def has_weights(folder: Path) -> bool:
    """Whether the weights that transformers would read lie in `folder`, every part of them."""
    for stem in ("model.safetensors", "pytorch_model.bin"):
        if (folder / stem).is_file():
            return True
        if (folder / f"{stem}.index.json").is_file():
            try:
                parts = read_json(folder / f"{stem}.index.json", PartsIndex)["weight_map"].values()
                return all((folder / part).is_file() for part in set(parts))
            except FileError:
                return False
    return False


def has_tokenizer(folder: Path) -> bool:
    """Whether any file of a tokenizer lies in `folder`."""
    return any(next(folder.glob(pattern), None) for pattern in TOKENIZER_FILES)


def no_connection(address: str) -> str | None:
    """Why the server at `address` cannot be reached, after PATIENCE at most; None when it can.

    Finding the address of a name cannot be given a limit of time, so a thread does it.
    """
    host, port = _first_hop(address)
    outcome: list[str | None] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=PATIENCE).close()
            outcome.append(None)
        except OSError as e:
            outcome.append(e.strerror or str(e) or type(e).__name__)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return outcome[0] if outcome else f"no answer in {PATIENCE} s"


def _first_hop(address: str) -> tuple[str, int]:
    """The proxy on the way to `address`, or its own host and port."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    proxies = {} if proxy_bypass(host) else getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return parts.hostname or host, parts.port or (443 if parts.scheme == "https" else 80)


def _not_here(name: str, why: str, fix: str, known: Callable[[], list[str]]) -> FileError:
    from huggingface_hub import constants

    names = known()
    near = [] if name in names else difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return FileError(
        f"{name} cannot be loaded{hint}: {why}",
        got=name,
        accepted=f"a folder, a .gguf file, or a name that is in the cache at {constants.HF_HUB_CACHE}",
        fix=f"{fix} and try again, or set HF_HOME to the folder of a cache that has it",
    )


def _unknown(name: str, known: Callable[[], list[str]], endpoint: str) -> UnknownNameError:
    fix = f"pass one of these, a local folder or a .gguf file; {endpoint} has no such model, or a private one: "
    return unknown_name("model", name, known(), fix=fix + "then log in with `hf auth login`")


def _status(error: Any) -> str:
    response = getattr(error, "response", None)
    return f"{getattr(response, 'status_code', '')} {getattr(response, 'reason_phrase', '')}".strip() or str(error)
