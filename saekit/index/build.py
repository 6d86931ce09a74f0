"""Building an index: one pass over a corpus, then everything a feature's card shows, computed from what the pass kept.

The pass (`parts`) keeps the sparse activations and nothing else, so that maxima need not be known while it runs;
`index_files` makes and writes the rest. Cost and memory: benchmarks/index_build.py.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..activations import ActivationCache, resolve_token_filter
from ..arguments import checks_arguments
from ..corpus import AnyCorpus, Windows, as_corpus
from ..errors import ConfigError, FileError, MismatchError
from ..hook_points import HookPoint
from ..output_folder import (
    PLAN,
    check_same_plan,
    claim_folder,
    digest_of_plan,
    output_folder,
    parts_of,
    remove_leftovers,
)
from ..sae import TokenFilter
from . import store
from .index_files import hook_as_json, write_index
from .parts import IndexEncoder, IndexInput, encode_all, progress_bar
from .query import FeatureIndex
from .statistics import STATISTICS

if TYPE_CHECKING:
    from ..models import LanguageModel
    from ..sae import SAE

PARTS = "parts"
"""The folder in that of an index in which the parts of an unfinished one lie."""
OF_PARTS = ("[0-9]*.safetensors", PLAN, *parts_of("*"))
"""Patterns of the files there."""


@checks_arguments
def build_index(
    model: LanguageModel,
    sae: SAE,
    corpus: AnyCorpus | Windows | ActivationCache,
    *,
    out: str | Path,
    hook_name: HookPoint | None = None,
    length: int = 128,
    n_top: int = 20,
    n_per_bin: int = 5,
    batch_size: int = 32,
    seed: int = 0,
    resume: bool = True,
    progress: bool = True,
) -> FeatureIndex:
    """The index of every feature of `sae` on `corpus`, written to the folder `out`.

    The corpus is run once, in windows of `length` tokens (Windows and caches keep their own). The SAE's token filter
    decides which tokens count; for one without, `resolve_token_filter` does, and of a cache those that it holds. Stored
    for each feature: statistics, histogram, the `n_top` strongest contexts (at most one a window, and one of those that
    end in the same tokens), `n_per_bin` contexts drawn with `seed` from each tenth of its range, logit effects,
    neighbours; and all activations. A transcoder's features lie where it reads, and its logit effects are those of what
    it writes; a crosscoder's are those of what it writes at the last of its hook points.

    A build that was stopped resumes when it is called again; an `out` that holds the finished index of the same build
    is opened, not built again. resume=False begins again. `hook_name` is needed only for an SAE that does not record
    its own.

    Raises MismatchError for an SAE of another model, hook or weight processing, and for a folder that holds the index
    of another build; FolderInUseError while another process builds there; DataError for an empty corpus or activations
    that are not finite; DiskFullError, after which the same call resumes.

    >>> index = sk.build_index(model, sae, corpus.take(5), out=tmp_path / "index", length=32, progress=False)
    >>> index.features.loc[3, ["density", "max"]].round(1).to_dict()  # doctest: +SKIP
    {'density': 0.1, 'max': 1.2}
    """
    out = Path(out)
    hook_name = _check(model, sae, hook_name, n_top, n_per_bin)
    if not isinstance(corpus, Windows | ActivationCache):
        corpus = as_corpus(corpus, also="Windows or an ActivationCache")
    if isinstance(corpus, ActivationCache):
        corpus = _checked_cache(corpus.at(hook_name), model, sae)
    windows = corpus.windows if isinstance(corpus, ActivationCache) else corpus
    window_length = windows.length if isinstance(windows, Windows) else length
    source = IndexInput(corpus, model, window_length, sae.config.prepend_bos)
    token_filter = _token_filter(model, sae, source, hook_name)
    plan = {
        "sae": sae.fingerprint,
        "hook_out": sae.config.hook_out,
        "model": model.fingerprint,
        "dtype": str(model.dtype),
        "hook": hook_as_json(hook_name),
        "corpus": source.name,
        "activations": corpus.digest if isinstance(corpus, ActivationCache) else None,
        "window_length": source.length,
        "token_filter": token_filter.to_dict(),
        "parameters": {"n_top": n_top, "n_per_bin": n_per_bin, "seed": seed},
    }
    encoder = IndexEncoder(model, sae, hook_name, token_filter, batch_size)
    if resume and not _has_parts(out / PARTS) and (found := _finished(out, plan, source)):
        return FeatureIndex(found, model=model, sae=sae)  # nothing is written, so no lock is needed
    with output_folder(out, "an index", leftovers=parts_of(*store.FILES, *store.OPTIONAL, store.MANIFEST)):
        return FeatureIndex(_build(out, plan, source, encoder, resume, progress), model=model, sae=sae)


def _build(
    out: Path, plan: dict[str, Any], source: IndexInput, encoder: IndexEncoder, resume: bool, progress: bool
) -> store.Store:
    """The index, built as far as it is not there. The caller holds the lock of the folder."""
    parts, sae = out / PARTS, encoder.sae
    if (found := _finished(out, plan, source if resume else None)) and resume:
        _remove_parts(parts)  # of a run that was killed after it had finished
        return found
    if found is None and not parts.is_dir() and (others := [p.name for p in out.iterdir() if p.name[0] != "."]):
        raise FileError(
            f"{out} holds other files",
            got=sorted(others)[:10],
            accepted="a new or empty folder, or one with an index",
            fix="pass another folder as out=",
        )
    if not resume:
        _remove_parts(parts)
    claim_folder(parts, plan, "an unfinished index", in_use=any(parts.glob("*.safetensors")))
    remove_leftovers(parts, parts_of("*"))
    was_training = sae.training
    sae.eval()
    try:
        with progress_bar(source, progress) as bar:
            all_windows, files = encode_all(source, encoder, parts, digest_of_plan(plan), bar)
            write_index(out, plan, encoder, all_windows, files, bar.set_postfix_str)
    finally:
        sae.train(was_training)
    _remove_parts(parts)
    return store.Store(out)


def _finished(out: Path, plan: dict[str, Any], source: IndexInput | None) -> store.Store | None:
    """The finished index in a folder; MismatchError when it is of another plan, or of other text than `source`'s."""
    if not (out / store.MANIFEST).is_file():
        return None
    found = store.Store(out)
    earlier = {"hook_out": plan["hook_out"], "dtype": plan["dtype"], "activations": plan["activations"]}
    earlier["token_filter"] = found.manifest["token_filter"]
    check_same_plan(out, {**earlier, **found.manifest["plan"]}, plan, "the index")
    if source is not None:
        _check_statistics(found)
        _check_corpus(found, source)
    return found


def _has_parts(parts: Path) -> bool:
    """Whether parts of an index lie there, or an empty folder for some."""
    there = any(path for pattern in OF_PARTS for path in parts.glob(pattern))
    return there or (parts.is_dir() and not parts.is_symlink() and not any(parts.iterdir()))


def _remove_parts(parts: Path) -> None:
    """Removes the parts of an index and, unless it is a link or holds other files, their folder."""
    remove_leftovers(parts, OF_PARTS)
    with contextlib.suppress(OSError):
        parts.rmdir()


def _check(model: LanguageModel, sae: SAE, hook_name: HookPoint | None, n_top: int, n_per_bin: int) -> HookPoint:
    """The hook's name, after everything that can be known to be wrong before the pass."""
    for name, value in (("n_top", n_top), ("n_per_bin", n_per_bin)):
        if value < 1:
            raise ConfigError(f"{name} is not positive", got=value, accepted="an integer of at least 1")
    hook_name = hook_name or sae.config.hook_name
    if hook_name is None:
        raise ConfigError("the SAE does not name the hook point it reads", fix="pass hook_name=...")
    sae.check(model, hook_name)
    return hook_name


def _checked_cache(cache: ActivationCache, model: LanguageModel, sae: SAE) -> ActivationCache:
    cache.check(model)
    if sae.config.token_filter is None:
        return cache
    token_filter = sae.config.token_filter.of_input(sae.config.d_in)
    if token_filter != cache.token_filter:
        raise MismatchError(
            "the activation cache left out other tokens than the SAE does",
            got=cache.token_filter.describe(),
            accepted=token_filter.describe(),
            fix="cache_activations(..., token_filter=that token filter), or pass the corpus itself",
        )
    return cache


def _token_filter(model: LanguageModel, sae: SAE, source: IndexInput, hook_name: HookPoint) -> TokenFilter:
    """The token filter for what the SAE reads and, of a cache, what was left out when it was made as well."""
    token_filter = resolve_token_filter(model, sae, hook_name).of_input(sae.config.d_in)
    if isinstance(source.data, ActivationCache):
        return TokenFilter.strictest([token_filter, source.data.token_filter])
    return token_filter


def _check_statistics(found: store.Store) -> None:
    """ConfigError when a statistic was registered that the finished index does not have."""
    if missing := [name for name in STATISTICS if name not in found.statistics]:
        raise ConfigError(
            f"{found.folder} holds a finished index without the statistic {missing[0]!r}",
            got=", ".join(missing),
            accepted=", ".join(found.statistics),
            fix="resume=False builds it again; sk.load_index opens it as it is",
        )


def _check_corpus(found: store.Store, source: IndexInput) -> None:
    """MismatchError when the index is of other text than the source's."""
    digest = Windows.concatenate(list(source.chunks())).digest
    if digest != found.manifest["windows"]:
        raise MismatchError(
            f"{found.folder} holds the index of another corpus of the same name",
            got=digest,
            accepted=found.manifest["windows"],
            fix="pass another folder as out=, or delete this one if it is no longer needed",
        )
