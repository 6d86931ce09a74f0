"""SAELens' names of published SAEs: which repository, path and facts a release and an id stand for.

releases.json holds them as patterns, written by scripts/saelens_releases.py from the list that comes with SAELens
(sae_lens/pretrained_saes.yaml, MIT): "layer_{0..25}_width_{16k,262k}" stands for every combination, and in its path
{0} and {1} are what stands in the braces, {id} the whole. What the files of a release do not say, such as the hook
point of a Gemma Scope SAE, stands beside them.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from ...errors import FileError, UnknownNameError
from ...json_files import read_sealed

TABLE = Path(__file__).with_name("releases.json")
UNREADABLE = {
    "cross_layer_transcoder": "a cross-layer transcoder, whose features write to several layers",
    "temporal": "a temporal SAE, whose features depend on the tokens before",
}
"""Families of releases that cannot be read, and what they are."""
_BRACES = re.compile(r"\{([^}]*)\}")
_LAYER = re.compile(r"(?:^|[^a-z])(?:layers?[._]?|blocks\.|L)(\d+)|^l(\d+)[arm]_|_l(\d+)$|^(\d+)$")


class Release(TypedDict):
    """One release in the table."""

    repo: str
    family: str
    facts: dict[str, Any]
    ids: dict[str, str]
    facts_by_id: NotRequired[dict[str, dict[str, Any]]]


class Table(TypedDict):
    """releases.json."""

    source: str
    releases: dict[str, Release]
    checksum: str


@dataclass(frozen=True)
class Published:
    """One SAE of a release: where it lies and what its files leave out."""

    repo: str
    path: str
    """Folder or file inside the repository."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What its files leave out: fields of SAEConfig, and what `load_sae` folds (activation_scale)."""


def expand(pattern: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every name that a pattern stands for, with what stood in its braces.

    >>> from saekit.sae.formats.releases import expand
    >>> [name for name, _ in expand("layer_{8..9}/{a,b}")]
    ['layer_8/a', 'layer_8/b', 'layer_9/a', 'layer_9/b']
    """
    parts = _BRACES.split(pattern)  # text, braces, text, braces, ..., text
    for values in itertools.product(*(_alternatives(b) for b in parts[1::2])):
        yield "".join(itertools.chain.from_iterable(zip(parts[::2], (*values, ""), strict=True))), values


@functools.cache
def ids_of(release: str) -> dict[str, str]:
    """The ids of a release and the path that each has in the repository."""
    found = {}
    for pattern, path in table()[release]["ids"].items():
        for name, values in expand(pattern):
            found[name] = path.format(*values, id=name)
    return found


def published(release: str, sae_id: str) -> Published:
    """The SAE of that release and id; UnknownNameError, naming the nearest, for an id that the release lacks."""
    entry, paths = table()[release], ids_of(release)
    if sae_id not in paths:
        near = _nearest(sae_id, paths) if sae_id else None
        first, *rest = [near, *(i for i in paths if i != near)] if near else list(paths)
        listed = [first, *rest[:9], *([f"... ({len(paths)} in all)"] if len(paths) > 10 else [])]
        raise UnknownNameError(
            f"the release {release} has no SAE {sae_id!r}" + (f"; did you mean {near!r}?" if near else "")
            if sae_id
            else f"{release} is a release of {len(paths)} SAEs",
            got=sae_id or release,
            accepted=", ".join(listed),
            fix=f'write sk.load_sae("{release}/{first}")' + ("" if near else ", or another of its ids"),
        )
    if entry["family"] in UNREADABLE:
        raise FileError(
            f"{release}/{sae_id} is of a kind that saekit does not read",
            got=UNREADABLE[entry["family"]],
            accepted="SAEs, and transcoders of one layer",
            fix="take a release of single layers, for example gemma-scope-2b-pt-transcoders",
        )
    return Published(entry["repo"], paths[sae_id], _facts(entry, sae_id, paths[sae_id]))


def ids_by_layer(release: str) -> list[str]:
    """The ids of a release of one transcoder a layer, from the first layer; UnknownNameError for any other release."""
    ids = ids_of(release)
    layers = {int(layer_of(path) or layer_of(i) or -1): i for i, path in ids.items()}
    if "hook_out" not in table()[release]["facts"] or sorted(layers) != list(range(len(ids))):
        sets = [name for name, entry in table().items() if "hook_out" in entry["facts"] and len(ids_of(name)) < 100]
        raise UnknownNameError(
            f"{release} is no set of one transcoder a layer",
            got=f"{len(ids)} SAEs of {len(layers)} layers",
            accepted=", ".join(sets),
            fix=f'load one of them, for example sk.load_sae("{release}/{next(iter(ids))}")',
        )
    return [layers[layer] for layer in sorted(layers)]


def facts_of(repo: str, path: str) -> dict[str, Any]:
    """What is known of a path in a repository that a release names; nothing of any other."""
    for name, entry in table().items():
        if entry["repo"] == repo:
            for sae_id, known in ids_of(name).items():
                if path == known or path.startswith(known + "/"):
                    return _facts(entry, sae_id, known)
    return {}


@functools.cache
def table() -> dict[str, Release]:
    """releases.json: for each release its repository, the patterns of its ids, and facts."""
    content: Table = read_sealed(TABLE, Table, fix="install saekit again")
    return content["releases"]


def _facts(entry: Release, sae_id: str, path: str) -> dict[str, Any]:
    facts = {**entry.get("facts", {}), **entry.get("facts_by_id", {}).get(sae_id, {})}
    layer = layer_of(path) or layer_of(sae_id)
    for name, value in facts.items():
        if isinstance(value, str) and "{layer}" in value:
            facts[name] = value.format(layer=layer)
    return facts


def _nearest(seen: str, names: Iterable[str]) -> str | None:
    """The name that begins alike for longest, the most similar of those; None where none is similar."""
    near = difflib.get_close_matches(seen, names, n=20, cutoff=0.4)
    return max(
        near,
        key=lambda name: next((n for n, (a, b) in enumerate(zip(seen, name, strict=False)) if a != b), len(seen)),
        default=None,
    )


def layer_of(name: str) -> str | None:
    """The layer that a path or an id speaks of."""
    found = _LAYER.search(name)
    return next(g for g in found.groups() if g is not None) if found else None


def _alternatives(braces: str) -> list[str]:
    if numbers := re.fullmatch(r"(\d+)\.\.(\d+)", braces):
        return [str(n) for n in range(int(numbers[1]), int(numbers[2]) + 1)]
    return braces.split(",")
