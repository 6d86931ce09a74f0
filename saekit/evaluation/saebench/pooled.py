"""Documents as single rows: the mean activation of each, and the mean of every feature of one or more SAEs.

The model is run once however many SAEs are given. A document is its first window of tokens; only tokens that every
SAE's token filter keeps count. Features are summed as they are encoded and kept sparse, so nothing of size [tokens,
d_sae] is ever held. Since ablating features takes sum_i a_i W_dec_i from x and leaves the SAE's error alone, and means
are linear, the mean of an ablated document follows from the two means exactly: no probe in this package needs the
tokens again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from ...activations import common_token_filter
from ...activations.forward import WINDOWS_PER_RUN, kept_activations
from ...corpus import Corpus, Document, tokenize
from ...errors import ConfigError, DataError, MismatchError, unknown_name
from ...hook_points import HookPoint
from ...models import LanguageModel
from ...sae import SAE, SAEConfig, SparseActs, common_prepend_bos
from ...sae.precision import doubles
from .probes import Matrix


@dataclass(frozen=True, eq=False)
class Pooled:
    """Mean activations of documents. The rows of all matrices are the same documents."""

    x: Float[np.ndarray, "documents d_in"]
    feature_acts: tuple[Matrix, ...]
    """One sparse matrix [documents, d_sae] for each SAE: the mean of each feature over the document's kept tokens."""
    random_acts: tuple[Matrix, ...]
    """The same for an SAE of the same sizes and sparsity with random weights, in the place of each."""
    random_W_dec: tuple[Float[np.ndarray, "d_sae d_in"], ...]
    document: Int[np.ndarray, " documents"]
    """Which of the documents given each row is; one without a kept token has none."""
    n_tokens: Int[np.ndarray, " documents"]
    """Tokens each mean is over."""


def several(sae: SAE | Sequence[SAE]) -> list[SAE]:
    """The SAEs as a list; ConfigError for anything else."""
    saes = [sae] if isinstance(sae, SAE) else list(sae)
    if not saes or not all(isinstance(s, SAE) for s in saes):
        raise ConfigError("not an SAE", got=[type(s).__name__ for s in saes], accepted="an SAE or a list of them")
    return saes


def hook_point(model: LanguageModel, saes: Sequence[SAE], hook_name: str | None) -> HookPoint:
    """What all SAEs read; MismatchError when it differs between them or they belong to another model."""
    names = {hook_name or s.config.hook_name for s in saes}
    if len(names) > 1:
        raise MismatchError(
            "the SAEs read at different hook points",
            got=sorted(map(str, names)),
            accepted="one hook point",
            fix="call once for each hook point",
        )
    name = names.pop()
    if name is None:
        raise ConfigError("the SAE does not name the hook point it reads", fix="pass hook_name=...")
    for s in saes:
        s.check(model, hook_name)
    return name


def one_hook_point(model: LanguageModel, saes: Sequence[SAE], hook_name: str | None) -> str:
    """The same, and ConfigError for a crosscoder."""
    name = hook_point(model, saes, hook_name)
    if not isinstance(name, str):
        raise ConfigError(
            "this SAE reads several hook points at once",
            got=name,
            accepted="an SAE of one hook point",
            fix="use sk.sparse_probing or sk.targeted_probe_perturbation, which read all of them",
        )
    return name


def writes_where_it_reads(saes: Sequence[SAE], what: str, *, means: bool = True) -> None:
    """ConfigError for SAEs that write elsewhere than they read, where ablation in x means nothing.

    With `means`, activations are averaged over tokens first, which one that normalises each token does not allow.
    """
    for s in saes:
        if means and s.config.normalises_input:
            raise ConfigError(
                f"{what} works with mean activations, and this SAE's are in other units at each token",
                got=f"input_normalisation={s.config.input_normalisation!r}",
                accepted="an SAE whose decoder adds to x itself",
                fix="use sk.sparse_probing or sk.ablation_sparsity",
            )
        if s.config.is_transcoder:
            raise ConfigError(
                f"{what} takes features out of the activations an SAE reads, and this one writes elsewhere",
                got=f"reads {s.config.hook_name}, writes {s.config.hook_out}",
                accepted="an SAE that reconstructs what it reads",
                fix="use sk.sparse_probing for transcoders",
            )


def random_sae(x: Float[torch.Tensor, "n d_in"], d_sae: int, l0: float, seed: int) -> SAE:
    """An SAE with random unit directions, tied, about the mean of `x`, with `l0` active features on every token."""
    k = min(max(round(l0), 1), d_sae)
    sae = SAE(SAEConfig(d_in=x.shape[1], d_sae=d_sae, activation="topk", k=k, seed=seed)).to(x.device)
    with torch.no_grad():
        sae.b_dec.copy_(x.mean(0))
    return sae


def choose_documents(
    corpus: Corpus, key: Callable[[Mapping[str, Any]], Any], n_each: int | None, seed: int
) -> tuple[list[Document], list[Any]]:
    """Documents and their keys: all whose key is not None, at most `n_each` of a key, drawn with `seed`.

    The corpus is read once, in order; documents keep that order.
    """
    if n_each is not None and n_each < 2:
        raise ConfigError("too few documents of a class to train and test on", got=n_each, accepted="at least 2")
    documents, keys = [], []
    for document in corpus:
        if (k := key(document.labels)) is not None:
            documents.append(document)
            keys.append(k)
    numbers = {k: n for n, k in enumerate(dict.fromkeys(keys))}
    of = np.array([numbers[k] for k in keys], dtype=np.int64)
    rng = np.random.default_rng([seed, 2])
    groups = [np.flatnonzero(of == n) for n in range(len(numbers))]
    kept = sorted(int(i) for g in groups for i in (g if n_each is None else rng.permutation(g)[:n_each]))
    return [documents[i] for i in kept], [keys[i] for i in kept]


def label_values(corpus: Corpus, label: str) -> list[Any]:
    """The values of a label, most frequent first; UnknownNameError when no document carries it."""
    counts: dict[Any, int] = {}
    for document in corpus:
        if (value := document.labels.get(label)) is not None:
            counts[value] = counts.get(value, 0) + 1
    if not counts:
        raise unknown_name("label", label, corpus.label_names, fix="corpus.label_names lists the labels")
    return sorted(counts, key=lambda v: (-counts[v], str(v)))


@torch.no_grad()
def pool(
    model: LanguageModel,
    saes: Sequence[SAE],
    documents: Sequence[Document],
    *,
    hook_name: HookPoint,
    length: int,
    batch_size: int = WINDOWS_PER_RUN,
    seed: int = 0,
    progress: bool = True,
) -> Pooled:
    """The mean of x and of every feature over the kept tokens of the first `length` tokens of each document.

    >>> from saekit.evaluation.saebench.pooled import pool
    >>> pooled = pool(model, [sae], list(corpus.take(3)), hook_name=HOOK, length=16, progress=False)
    >>> pooled.x.shape, pooled.feature_acts[0].shape
    ((3, 32), (3, 64))
    """
    from scipy import sparse

    if batch_size < 1:
        raise ConfigError("batch_size is not positive", got=batch_size, accepted="an integer of at least 1")
    prepend_bos = common_prepend_bos(s.config for s in saes)
    windows = tokenize(documents, model, length=length, prepend_bos=prepend_bos)
    first = np.unique(windows.documents.max(1).values.numpy(), return_index=True)[1]
    windows = windows.select(first)
    of_window = windows.documents.max(1).values.long()
    token_filter = common_token_filter(model, saes, hook_name)
    sums = torch.zeros(len(documents), model.hook_width(hook_name), dtype=torch.float64)
    counts = torch.zeros(len(documents), dtype=torch.float64)
    every: list[SAE] = list(saes)
    cells: list[list[Any]] = [[] for _ in range(2 * len(saes))]
    order = torch.argsort(windows.lengths, descending=True, stable=True)
    with tqdm(total=len(windows), desc="reading documents", unit=" documents", disable=not progress) as bar:
        for rows in torch.split(order, batch_size):
            position, x = kept_activations(model, windows, rows, hook_name, token_filter)
            bar.update(len(rows))
            if not len(x):
                continue
            of = of_window[position // windows.length]
            sums.index_add_(0, of, x.double())
            counts += torch.bincount(of, minlength=len(documents))
            if len(every) == len(saes):
                l0 = [s.encode_sparse(x.to(s.W_dec.device)).value.numel() / len(x) for s in saes]
                every += [random_sae(x, s.config.d_sae, n, seed + 1) for s, n in zip(saes, l0, strict=True)]
            for s, mine in zip(every, cells, strict=True):
                mine.append(_document_sums(s.encode_sparse(x.to(s.W_dec.device)), of.numpy(), len(documents)))
    present = np.flatnonzero(counts.numpy() > 0)
    if not len(present):
        raise DataError(
            "no token of these documents is kept", got=token_filter.describe(), fix="check sae.config.token_filter"
        )
    n_tokens = counts.numpy()[present]
    scale = sparse.diags_array(1 / n_tokens)
    means = [(scale @ sum(mine[1:], mine[0])[present]).tocsr() for mine in cells]
    return Pooled(
        x=sums.numpy()[present] / n_tokens[:, None],
        feature_acts=tuple(means[: len(saes)]),
        random_acts=tuple(means[len(saes) :]),
        random_W_dec=tuple(decoder(s) for s in every[len(saes) :]),
        document=present,
        n_tokens=n_tokens.astype(np.int64),
    )


def decoder(sae: SAE) -> Float[np.ndarray, "d_sae d_in"]:
    """The decoder rows as float64 on the CPU."""
    return doubles(sae.W_dec.detach()).cpu().numpy()


def _document_sums(acts: SparseActs, document: Any, n_documents: int) -> Matrix:
    """Sum of each feature over the tokens of each document, sparse [n_documents, d_sae]."""
    from scipy import sparse

    token, feature, value = (t.cpu().numpy() for t in (acts.token, acts.feature, doubles(acts.value)))
    return sparse.coo_array((value, (document[token], feature)), shape=(n_documents, acts.d_sae)).tocsr()
