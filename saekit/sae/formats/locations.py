"""Where an SAE is: a path, the name of a packaged one, a release and id of SAELens, or a place on the Hugging Face Hub.

Whatever it is called, `locate` gives a folder or file on this machine. Names are settled before the network is asked,
so that a misspelt one is answered at once.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import FileError, UnknownNameError
from . import hub, releases
from .packaged import packaged_folder, packaged_names

_HUB = re.compile(r"hf://(?P<repo>[^/@\s]+/[^/@\s]+)(?:@(?P<early>[^/]+))?(?P<path>/[^@]*)?(?:@(?P<late>.+))?")
_PAGE = re.compile(
    r"https?://huggingface\.co/(?P<repo>[^/]+/[^/?#]+)(?:/(?:tree|blob|resolve)/(?P<rev>[^/?#]+)(?P<path>/[^?#]*)?)?/?"
)


@dataclass(frozen=True)
class Location:
    """A folder or file on this machine that holds an SAE."""

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    """What is known of a published SAE beside its files: see `releases.Published`."""


def locate(path_or_name: str | Path) -> Location:
    """The folder or file that holds an SAE, fetched from the Hugging Face Hub where its name says so.

    UnknownNameError, with the nearest names, for a name that nothing has; FileError for a path or a place on the Hub
    that does not exist or cannot be reached.
    """
    path, name = Path(path_or_name).expanduser(), str(path_or_name)
    if not isinstance(path_or_name, Path) and (place := _place(name)):
        return Location(hub.fetch(*place), releases.facts_of(place[0], place[1]))
    if path.exists():
        return Location(path)
    if isinstance(path_or_name, Path) or name.startswith((".", "/", "~")):
        raise FileError(
            f"no SAE at {path_or_name}",
            got=path_or_name,
            accepted="a folder or file that holds an SAE",
            fix="check the path; sk.list_saes() shows the SAEs that come with saekit",
        )
    if folder := packaged_folder(name):
        return Location(folder)
    release, _, sae_id = name.partition("/")
    if release not in releases.table():
        raise _unknown(name)
    if not sae_id and len(only := list(releases.ids_of(release))) == 1:
        sae_id = only[0]
    found = releases.published(release, sae_id)
    return Location(hub.fetch(found.repo, found.path, None), found.facts)


def locate_set(path_or_name: str | Path) -> Path:
    """The folder that holds a transcoder for every layer, fetched from the Hub where its name says so."""
    if not isinstance(path_or_name, Path) and (place := _place(path_or_name)):
        return hub.fetch(*place, hub.files_of_set)
    return Path(path_or_name).expanduser()


def _place(name: str) -> tuple[str, str, str | None] | None:
    """Repository, path and revision of a place on the Hub; None for a name of another form."""
    name = name.replace("?revision=", "@")  # as circuit-tracer writes it
    if page := _PAGE.fullmatch(name):
        return page["repo"], (page["path"] or "").strip("/"), page["rev"]
    if not name.startswith("hf://"):
        return None
    found = _HUB.fullmatch(name)
    if found is None or (found["early"] and found["late"]):
        raise FileError(
            f"{name} is not a place on the Hugging Face Hub",
            got=name,
            accepted="hf://owner/repository/path, and @revision after the path where it is not main",
            fix='write for example sk.load_sae("hf://jbloom/GPT2-Small-SAEs-Reformatted/blocks.8.hook_resid_pre")',
        )
    return found["repo"], (found["path"] or "").strip("/"), found["early"] or found["late"]


def _unknown(name: str) -> UnknownNameError:
    """A name that is neither packaged nor a release, with the nearest of both."""
    release, slash, rest = name.partition("/")
    packaged, others = packaged_names(), list(releases.table())
    near = difflib.get_close_matches(name, [*packaged, *others], n=3, cutoff=0.5)
    near = near or difflib.get_close_matches(release, others, n=3)
    if near:
        fix = f'write sk.load_sae("{near[0]}{slash + rest if near[0] in others else ""}")'
    elif slash:
        fix = f'for a repository on the Hugging Face Hub write sk.load_sae("hf://{name}"), else check the path'
    else:
        fix = "check the name or path; sk.list_saes() shows the SAEs that come with saekit"
    accepted = f"a release and id of SAELens ({len(others)} releases are known), hf://owner/repository/path, or a path"
    return UnknownNameError(
        f"unknown SAE {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        got=name,
        accepted=f"{', '.join(near or packaged)}; {accepted}",
        fix=fix,
    )
