"""Activations written to disk: run the model once, train on them as often as you like.

A folder with the windows themselves, shards of activations in corpus order (safetensors, memory-mapped) and a manifest
that says which model, hook point, text and token filter they are of and what each shard's SHA-256 is. A shard is
written whole or not at all and entered in the manifest afterwards, so a run that was killed resumes where it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..arguments import checks_arguments
from ..corpus import AnyCorpus, Windows, tokenize
from ..errors import ConfigError, FileError, MismatchError
from ..hook_points import HookPoint, hook_names
from ..models import LanguageModel
from ..output_folder import output_folder, parts_of
from ..sae import TokenFilter
from .cache import ActivationCache
from .forward import WINDOWS_PER_RUN, kept_activations, nothing_kept
from .shards import DTYPES, FILES, begin, check_plans, check_shard, complete, read_manifest, shard_name, write_shard
from .token_filter import fit_token_filter


@checks_arguments
def cache_activations(
    model: LanguageModel,
    corpus: AnyCorpus | Windows,
    hook_name: HookPoint,
    path: str | Path,
    *,
    token_filter: TokenFilter | None = None,
    length: int = 128,
    prepend_bos: bool | None = None,
    dtype: str = "float32",
    progress: bool = True,
) -> ActivationCache:
    """Activations of the whole text at a hook point, on disk in the folder `path`, with the windows they belong to.

    Several hook points, a tuple of names, are read in one run of the model and stand side by side. The same call goes
    on with what an interrupted one has left, and reads what a finished one has. `token_filter` None finds one with
    `fit_token_filter`; left out tokens are not stored. `prepend_bos` is that of `tokenize`. A token
    takes d_in * 4 bytes, half of it as "float16" or "bfloat16".

    Raises MismatchError when `path` holds activations of another model, hook point, text, token filter or dtype;
    FolderInUseError while another process writes there; FileError for a shard that was altered or cut short;
    DiskFullError, with all finished shards kept; DataError for activations that are not finite.

    >>> sk.cache_activations(model, corpus, HOOK, tmp_path, length=16, progress=False).hook_name == HOOK
    True
    """
    path = Path(path).expanduser()
    if dtype not in DTYPES:
        raise ConfigError("unknown dtype for activations on disk", got=dtype, accepted=", ".join(DTYPES))
    widths = [model.hook_width(name) for name in hook_names(hook_name)]
    windows = corpus
    if not isinstance(windows, Windows):
        windows = tokenize(windows, model, length=length, prepend_bos=prepend_bos, progress=progress)
    if token_filter is not None:
        token_filter = TokenFilter.joined(token_filter.split(widths), widths)
    identity = {
        "model_name": model.name,
        "model_fingerprint": model.fingerprint,
        "weight_processing": model.weight_processing,
        "hook_name": hook_name if isinstance(hook_name, str) else list(hook_name),
        "d_in": sum(widths),
        **({} if isinstance(hook_name, str) else {"widths": widths}),
        "dtype": dtype,
        "text": windows.digest,
        "length": windows.length,
    }

    def checked(manifest: dict[str, Any]) -> dict[str, Any]:
        if token_filter is not None and token_filter != TokenFilter.from_dict(manifest["token_filter"]):
            raise MismatchError(
                f"{path} holds activations chosen by another token filter",
                got=token_filter.describe(),
                accepted=TokenFilter.from_dict(manifest["token_filter"]).describe(),
                fix="pass that token filter or None, or another folder",
            )
        return manifest

    if (manifest := complete(path, windows, identity)) is not None:
        check_plans(path, manifest)
        return ActivationCache.opened(path, checked(manifest))  # nothing is written, so no lock is needed
    with output_folder(path, "activations", leftovers=parts_of(*FILES)):
        manifest = checked(
            begin(path, windows, identity, lambda: token_filter or fit_token_filter(model, windows, hook_name))
        )
        check_plans(path, manifest)
        _fill(model, windows, path, manifest, progress)
        return ActivationCache.opened(path, manifest)


def _fill(model: LanguageModel, windows: Windows, path: Path, manifest: dict[str, Any], progress: bool) -> None:
    """Runs the model for every shard that is not there yet."""
    token_filter, hook = TokenFilter.from_dict(manifest["token_filter"]), manifest["hook_name"]
    hook_name = hook if isinstance(hook, str) else tuple(hook)
    done = {shard["file"] for shard in manifest["shards"]}
    shards = torch.split(torch.arange(len(windows)), manifest["windows_per_shard"])
    missing = [n for n in range(len(shards)) if shard_name(n) not in done]
    left = sum(int(windows.lengths[shards[n]].sum()) for n in missing)
    bar = tqdm(
        desc="activations",
        unit=" tokens",
        unit_scale=True,
        disable=not progress,
        total=windows.n_tokens,
        initial=windows.n_tokens - left,
    )
    with bar:
        for n in missing:
            of_shard = shards[n]
            by_length = of_shard[windows.lengths[of_shard].argsort(stable=True)]
            parts: list[tuple[Tensor, Tensor]] = []
            for rows in torch.split(by_length, WINDOWS_PER_RUN):
                parts.append(kept_activations(model, windows, rows, hook_name, token_filter))
                bar.update(int(windows.lengths[rows].sum()))
            position, x = torch.cat([p for p, _ in parts]), torch.cat([x for _, x in parts])
            order = position.argsort()
            write_shard(path, n, x[order], position[order], manifest)
    if not any(shard["n_tokens"] for shard in manifest["shards"]):
        raise nothing_kept(windows, token_filter)


@checks_arguments
def open_activations(path: str | Path, *, verify: bool = True) -> ActivationCache:
    """The activations that `cache_activations` wrote into the folder `path`.

    `verify=False` skips the checksums (a second or so for a gigabyte) but not the sizes. Raises FileError when the
    cache is missing, not finished, or a file of it was altered or cut short.

    >>> cache = sk.cache_activations(model, corpus, HOOK, tmp_path, length=16, progress=False)
    >>> sk.open_activations(tmp_path).n_tokens == cache.n_tokens
    True
    """
    path = Path(path).expanduser()
    manifest = read_manifest(path)
    if len(manifest["shards"]) < manifest["n_shards"]:
        raise FileError(
            f"the activations in {path} are not finished",
            got=f"{len(manifest['shards'])} of {manifest['n_shards']} shards",
            fix="call cache_activations with the same arguments to resume",
        )
    for shard in manifest["shards"]:
        check_shard(path, shard, verify)
    cache = ActivationCache.opened(path, manifest)
    n_shards = -(-len(cache.windows) // manifest["windows_per_shard"])
    fits = cache.windows.length == manifest["length"] and n_shards == manifest["n_shards"]
    if not fits or (verify and cache.windows.digest != manifest["text"]):
        raise FileError(f"the windows in {path} were altered", fix="delete the folder and write it again")
    check_plans(path, manifest)
    return cache
