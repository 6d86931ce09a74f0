"""SAEs on the Hugging Face Hub: only the files of one SAE are fetched, into the Hub's own cache.

One request lists the repository; the files that belong to the SAE come through huggingface_hub, which keeps them by
commit. Without a connection the cache answers, or an error that says within two seconds what is missing and where it
was looked for: huggingface_hub alone tries again and again.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ...errors import FileError, SaekitError, disk_errors

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

WEIGHT_SUFFIXES = (".safetensors", ".npz", ".pt", ".pth")
WEIGHT_NAMES = (
    "sae_weights.safetensors",
    "sae.safetensors",
    "params.safetensors",
    "params.npz",
    "ae.pt",
    "final.safetensors",
)
"""What the weights are called in families whose folders hold other tensors too."""
BESIDE = (
    "cfg.json",
    "config.json",
    "config.yaml",
    "hyperparams.json",
    "activation_scaler.json",
    "sparsity.safetensors",
)
"""Small files that belong to the weights beside them."""
CHECKPOINTS = "checkpoints"
"""Llama Scope has its weights in a folder of that name beside hyperparams.json."""
REACH_SECONDS = 1.5
_COMMIT = re.compile(r"[0-9a-f]{40}")


Choose = Callable[[Iterable[str], str, str], tuple[str, list[str]]]
"""The names in a repository, a path and the repository's name to what is to be loaded, and the files that takes."""


def fetch(repo: str, path: str, revision: str | None = None, choose: Choose | None = None) -> Path:
    """The folder or file `path` of a model repository on the Hub, as it lies in the local cache afterwards.

    choose is `files_of` (an SAE) or `files_of_set` (transcoders of every layer). revision is a branch, tag or commit;
    None: main. FileError says which of repository, revision and path does not exist, that access has to be asked for,
    or that the Hub cannot be reached and the cache lacks it.
    """
    from huggingface_hub import HfApi, constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    choose = choose or files_of
    if _COMMIT.fullmatch(revision or ""):  # what lies there never changes
        with contextlib.suppress(FileError):
            return _from_cache(repo, path, revision, "", choose)
    no_connection: type[Exception] = HfHubHTTPError.__mro__[1]  # the base class of what the HTTP client raises
    reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _unreachable(constants.ENDPOINT)
    if reason is not None:
        return _from_cache(repo, path, revision, reason, choose)
    try:
        info = HfApi().model_info(repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        names = [file.rfilename for file in info.siblings or []]
        target, files = choose(names, path, repo)
        fetched = [Path(hf_hub_download(repo, name, revision=revision)) for name in files]
    except SaekitError:
        raise
    except HfHubHTTPError as e:
        raise _answered(e, repo, path, revision) from e
    except ValueError as e:  # a repository name that cannot be one
        raise FileError(
            f"{repo!r} is not the name of a repository",
            got=e,
            accepted="owner/repository",
            fix='write hf://owner/repository/path, for example "hf://google/gemma-scope-2b-pt-res/layer_0"',
        ) from e
    except (no_connection, LocalEntryNotFoundError) as e:
        return _from_cache(repo, path, revision, f"the connection to {constants.ENDPOINT} broke off ({e})", choose)
    except OSError as e:
        with disk_errors(constants.HF_HUB_CACHE):
            raise e
    return fetched[-1].parents[files[-1].count("/")] / target


def files_of(names: Iterable[str], path: str, repo: str) -> tuple[str, list[str]]:
    """What to load, and which files that takes, of the SAE at `path` in a repository that holds `names`.

    >>> from saekit.sae.formats.hub import files_of
    >>> files_of(["a/cfg.json", "a/sae_weights.safetensors", "b/cfg.json"], "a", "me/mine")
    ('a', ['a/cfg.json', 'a/sae_weights.safetensors'])
    """
    names = sorted(names)
    if path + ".safetensors" in names:
        path += ".safetensors"
    if path in names:
        folder, stem = PurePosixPath(path).parent, PurePosixPath(path).stem
        near = [n for n in names if PurePosixPath(n).parent == folder and n.endswith(".json")]
        beside = [n for n in near if PurePosixPath(n).name.startswith(stem)]
        return path, list(dict.fromkeys([*_beside(names, folder), *beside, path]))
    folder = PurePosixPath(path)
    weights = [n for n in names if n.endswith(WEIGHT_SUFFIXES) and PurePosixPath(n).name not in BESIDE]
    direct = [n for n in weights if PurePosixPath(n).parent in (folder, folder / CHECKPOINTS)]
    chosen = [n for n in direct if PurePosixPath(n).name in WEIGHT_NAMES] or direct
    inside = [n for n in weights if folder in PurePosixPath(n).parents]
    if len(chosen) != 1:
        raise _not_one(repo, path, chosen or sorted({str(PurePosixPath(n).parent) for n in inside}), weights)
    return path, list(
        dict.fromkeys([*_beside(names, folder), *_beside(names, PurePosixPath(chosen[0]).parent), *chosen])
    )


def files_of_set(names: Iterable[str], path: str, repo: str) -> tuple[str, list[str]]:
    """The same of a set of transcoders: its config.yaml and the files of its layers, as far as they lie beside it.

    >>> from saekit.sae.formats.hub import files_of_set
    >>> files_of_set(["config.yaml", "layer_0.safetensors", "layer_1.safetensors", "features/0.bin"], "", "me/mine")
    ('', ['config.yaml', 'layer_0.safetensors', 'layer_1.safetensors'])
    """
    folder = PurePosixPath(path)
    here = [n for n in sorted(names) if PurePosixPath(n).parent == folder]
    files = [n for n in here if PurePosixPath(n).match("config.yaml") or PurePosixPath(n).match("layer_*.safetensors")]
    if not files:
        raise _not_one(repo, path, [], [n for n in names if n.endswith(WEIGHT_SUFFIXES)])
    return path, files


def _beside(names: list[str], folder: PurePosixPath) -> list[str]:
    """The small files of a folder, and of the one that it is a part of."""
    places = {folder, folder.parent}
    return [n for n in names if PurePosixPath(n).name in BESIDE and PurePosixPath(n).parent in places]


def _not_one(repo: str, path: str, found: list[str], weights: list[str]) -> FileError:
    """Nothing at that path, or several SAEs."""
    where = f"hf://{repo}/{path}".rstrip("/")
    if not found:
        known = sorted({p for n in weights for p in (n, str(PurePosixPath(n).parent)) if p != "."})
        near = difflib.get_close_matches(path, known, n=5, cutoff=0.3) or known[:5]
        return FileError(
            f"no SAE at {where}",
            got=path or "the repository itself",
            accepted=", ".join(near) or "a repository with weights in safetensors, npz or pt files",
            fix=f'write sk.load_sae("hf://{repo}/{near[0]}")' if near else "check the name of the repository",
        )
    listed = ", ".join(found[:20]) + (f", ... ({len(found)} in all)" if len(found) > 20 else "")
    return FileError(
        f"{where} holds several SAEs",
        got=listed,
        accepted="the path of one",
        fix=f'load one of them, for example sk.load_sae("hf://{repo}/{found[0]}")',
    )


def _from_cache(repo: str, path: str, revision: str | None, reason: str, choose: Choose) -> Path:
    """What an earlier call left in the cache; FileError, with the reason there is no connection, where it did not."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    cache = Path(constants.HF_HUB_CACHE)
    stored = cache / repo_folder_name(repo_id=repo, repo_type="model")
    ref = stored / "refs" / (revision or "main")
    commit = ref.read_text("utf8", "replace").strip() if ref.is_file() else (revision or "main")
    if not re.fullmatch(r"[\w.-]+", commit) or commit in (".", ".."):  # a damaged reference leads nowhere
        commit = "main"
    snapshot = stored / "snapshots" / commit
    names = [p.relative_to(snapshot).as_posix() for p in snapshot.rglob("*") if p.is_file()]
    try:
        return snapshot / choose(names, path, repo)[0]
    except FileError as e:
        at = f"@{revision}" if revision else ""
        raise FileError(
            f"hf://{repo}/{path}{at} is not in the cache, and {reason}",
            got=f"cache folder {cache}: "
            + (
                ", ".join(names[:5]) or "nothing of this repository"
                if snapshot.is_dir()
                else "nothing of this repository"
            ),
            accepted="an SAE that was loaded before, or a connection",
            fix=("unset HF_HUB_OFFLINE to fetch it" if constants.HF_HUB_OFFLINE else "connect and call again")
            + ", or copy its folder to this machine and pass the path",
        ) from e


def _unreachable(endpoint: str) -> str | None:
    """Why no connection to the Hub can be made, found within REACH_SECONDS; None where one can."""
    from huggingface_hub import constants

    address = urlsplit(endpoint)
    host = address.hostname or endpoint
    if urllib.request.getproxies().get(address.scheme) and not urllib.request.proxy_bypass(host):
        return None  # the proxy knows, not we
    asked = constants.HF_HUB_ETAG_TIMEOUT
    seconds = REACH_SECONDS if asked == constants.DEFAULT_ETAG_TIMEOUT else asked
    found = [f"{host} did not answer within {seconds:g} s (HF_HUB_ETAG_TIMEOUT=30 waits longer)"]

    def connect() -> None:
        port = address.port or (80 if address.scheme == "http" else 443)
        try:
            socket.create_connection((host, port), timeout=seconds).close()
            found[0] = ""
        except TimeoutError:
            pass
        except OSError as e:
            found[0] = f"{host} cannot be reached: {e.strerror or e}"

    thread = threading.Thread(target=connect, daemon=True)  # looking up a name has no time limit of its own
    thread.start()
    thread.join(seconds)
    return found[0] or None


def _answered(e: HfHubHTTPError, repo: str, path: str, revision: str | None) -> FileError:
    """What the Hub said, in terms of what to do about it."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    page = f"{constants.ENDPOINT}/{repo}"
    if isinstance(e, GatedRepoError):
        return FileError(
            f"access to {repo} has to be asked for",
            got=f"hf://{repo}/{path}",
            accepted="an account that was given access",
            fix=f"accept the terms at {page}, then log in with `hf auth login` and call again",
        )
    if isinstance(e, RepositoryNotFoundError):
        return FileError(
            f"there is no model repository {repo} on the Hub, or it is private",
            got=f"hf://{repo}/{path}",
            accepted="hf://owner/repository/path",
            fix=f"check the spelling at {page}; for a private one log in with `hf auth login`",
        )
    if isinstance(e, RevisionNotFoundError):
        return FileError(
            f"{repo} has no revision {revision}",
            got=revision,
            accepted="a branch, a tag or a commit",
            fix=f"leave @{revision} out, or take one from {page}/commits/main",
        )
    status = getattr(e.response, "status_code", None)
    return FileError(
        f"the Hub refused hf://{repo}/{path}",
        got=f"status {status}: {str(e).splitlines()[0]}",
        fix="log in with `hf auth login`" if status in (401, 403) else "wait a little and call again",
    )
