"""Finding features: by what fires on a prompt, by contrast, by text in the corpus, by promoted token, by name.

Each search returns a tidy frame, best first. Those over text use the stored activations alone; those over prompts run
the model and the SAE through a Runner, which has checked that they are the ones the index was built with.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from ..errors import ConfigError, DataError, MismatchError, unknown_name
from ..hook_points import HookPoint, hook_text
from ..models.text_matching import compiled, matches, tokens_of_matches
from .directions import written_to_residual
from .name_search import search_names

if TYPE_CHECKING:
    from ..models import LanguageModel
    from ..sae import SAE
    from .query import FeatureIndex


MAX_QUESTION = 10_000
"""Letters of what is searched for at most."""


class Fired(NamedTuple):
    """The firings on one prompt, and the token ids of the prompt."""

    feature: np.ndarray
    pos: np.ndarray
    value: np.ndarray
    ids: list[int]


class Runner(NamedTuple):
    """The model and SAE that an index belongs to, ready to run on a prompt."""

    model: LanguageModel
    sae: SAE
    hook_name: HookPoint
    token_filter: Any

    @classmethod
    def of(cls, index: FeatureIndex, model: LanguageModel | None, sae: SAE | None) -> Runner:
        """The ones passed, else those the index was built with; checked against the index."""
        from ..sae import TokenFilter

        model, sae = model or index.model, sae or index.sae
        if model is None or sae is None:
            missing = " and ".join(name for name, value in (("model", model), ("sae", sae)) if value is None)
            raise ConfigError(
                f"this search runs the model, and the index was loaded without its {missing}",
                fix="pass model=... and sae=..., the ones the index was built with",
            )
        if sae.fingerprint != index.sae_fingerprint:
            raise MismatchError(
                "the index is of another SAE",
                got=sae.fingerprint,
                accepted=index.sae_fingerprint,
                fix="pass the SAE the index was built with, or build an index of this one",
            )
        if model.fingerprint != index.model_fingerprint:
            raise MismatchError(
                "the index is of another model",
                got=f"{model.name} ({model.fingerprint})",
                accepted=f"{index.model_name} ({index.model_fingerprint})",
                fix="load that model, with the same weight processing",
            )
        return cls(model, sae, index.hook_name, TokenFilter.from_dict(index.manifest["token_filter"]))

    @torch.inference_mode()
    def run(self, prompt: str) -> Fired:
        """Every firing on the tokens of a prompt that the token filter keeps."""
        ids = self.model.tokenize(prompt, self.sae.config.prepend_bos)
        x = self.model.activations([ids], self.hook_name)
        if not bool(torch.isfinite(x).all()):
            raise DataError(
                f"the activations at {hook_text(self.hook_name)} are not finite on this prompt",
                got=prompt[:200],
                fix="load the model in float32, and check its weights",
            )
        keep = self.token_filter.keep(torch.tensor([ids], device=x.device), x)[0]
        weight = self.sae.W_enc
        acts = self.sae.encode_sparse(x[0][keep].to(weight.device, weight.dtype))
        pos = keep.nonzero()[:, 0].to(acts.token.device)[acts.token]
        fires = acts.value != 0
        feature, pos, value = (t[fires].cpu().numpy() for t in (acts.feature, pos, acts.value.float()))
        return Fired(feature, pos, value, ids)


class Question(NamedTuple):
    """What a search is for; exactly one of these is given."""

    prompt: str | None = None
    contrast: tuple[Sequence[str], Sequence[str]] | None = None
    text: str | None = None
    token: str | None = None
    name: str | None = None


def answer(
    index: FeatureIndex, question: Question, n: int, model: LanguageModel | None, sae: SAE | None
) -> pd.DataFrame:
    """The n features that answer the question best; see `FeatureIndex.search`."""
    given = [name for name, value in question._asdict().items() if value is not None]
    for name in ("prompt", "text", "token", "name"):
        value = getattr(question, name)
        if value is not None and (not isinstance(value, str) or len(value) > MAX_QUESTION):
            raise ConfigError(
                f"{name} is too long" if isinstance(value, str) else f"{name} is no text",
                got=f"{len(value):,} letters" if isinstance(value, str) else f"{value!r:.80}",
                accepted=f"a string of at most {MAX_QUESTION:,} letters",
                fix="look for a few words",
            )
    if len(given) != 1:
        raise ConfigError(
            "a search answers exactly one question",
            got=", ".join(given) or "none",
            accepted=", ".join(Question._fields),
            fix='for example index.search(text="Golden Gate")',
        )
    if n < 1:
        raise ConfigError("n is not positive", got=n, accepted="an integer of at least 1")
    if question.text is not None:
        return by_text(index, question.text, n)
    if question.name is not None:
        return by_name(index, question.name, n)
    if question.token is not None:
        known = (model or index.model) is not None and (sae or index.sae) is not None
        return by_token(index, Runner.of(index, model, sae) if known else None, question.token, n)
    runner = Runner.of(index, model, sae)
    if question.prompt is not None:
        return by_prompt(index, runner, question.prompt, n)
    assert question.contrast is not None
    return by_contrast(index, runner, question.contrast, n)


def by_prompt(index: FeatureIndex, runner: Runner, prompt: str, n: int) -> pd.DataFrame:
    """feature, max, mean (when active), n_tokens, token and pos of the maximum, fraction_of_max (of the index's)."""
    feature, pos, value, ids = runner.run(prompt)
    fired = pd.DataFrame({"feature": feature.astype(np.int64), "pos": pos.astype(np.int64), "value": value})
    fired = fired.sort_values(["feature", "value", "pos"], ascending=[True, False, True])
    table = fired.groupby("feature").agg(
        max=("value", "first"), mean=("value", "mean"), n_tokens=("value", "size"), pos=("pos", "first")
    )
    table["token"] = [index.vocabulary[ids[p]] for p in table["pos"]]
    table = _with_index(index, table)
    peak = table.pop("index_max").to_numpy(np.float64)
    table.insert(7, "fraction_of_max", np.divide(table["max"], peak, out=np.full(len(table), np.inf), where=peak > 0))
    return _best(table, "max", n)


def by_contrast(
    index: FeatureIndex, runner: Runner, contrast: tuple[Sequence[str], Sequence[str]], n: int
) -> pd.DataFrame:
    """feature, score (positive - negative), positive and negative (mean over prompts of the largest activation)."""
    if not isinstance(contrast, list | tuple) or len(contrast) != 2 or not all(len(side) for side in contrast):
        raise ConfigError(
            "a contrast has two sides with at least one prompt each",
            got=contrast,
            accepted="(positives, negatives)",
            fix='contrast=(["a prompt with it"], ["a prompt without it"])',
        )
    means = []
    for side in contrast:
        prompts = [side] if isinstance(side, str) else list(side)
        total = np.zeros(index.d_sae)
        for prompt in prompts:
            fired, peak = runner.run(prompt), np.zeros(index.d_sae)
            np.maximum.at(peak, fired.feature, fired.value)
            total += peak
        means.append(total / len(prompts))
    features = np.flatnonzero(means[0] + means[1])
    positive, negative = means[0][features], means[1][features]
    table = pd.DataFrame({"score": positive - negative, "positive": positive, "negative": negative}, index=features)
    return _best(_with_index(index, table).drop(columns="index_max"), "score", n)


def by_text(index: FeatureIndex, text: str, n: int) -> pd.DataFrame:
    """feature, score, lift, fraction, coverage, n_firings (inside matches), max (there).

    `fraction` is the part of the feature's activation that falls inside matches, `coverage` the part of matches in
    which it fires, `score` their harmonic mean, `lift` its activation per token inside over that per token anywhere.
    """
    if not text.strip():
        raise ConfigError("no text to search for", got=repr(text), accepted="some text")
    match_of = _matches(index, text)
    n_matches = int(match_of.max(initial=-1)) + 1
    inside, rows = np.flatnonzero(match_of >= 0), index.by_token
    count = np.diff(rows.start)[inside]
    entry = np.repeat(rows.start[inside] - np.concatenate([[0], np.cumsum(count)[:-1]])[: len(count)], count)
    entry = entry + np.arange(len(entry))
    feature, value = rows.column[entry].astype(np.int64), rows.value[entry].astype(np.float64)
    hits = pd.DataFrame({"feature": feature, "value": value, "match": np.repeat(match_of[inside], count)})
    table = hits.groupby("feature").agg(
        n_firings=("value", "size"), max=("value", "max"), mass=("value", "sum"), found=("match", "nunique")
    )
    known = index.features.loc[table.index]
    whole = known["mean"].to_numpy(np.float64) * known["n_firings"].to_numpy()
    fraction, coverage = table.pop("mass") / whole, table.pop("found") / max(n_matches, 1)
    table.insert(0, "score", 2 * fraction * coverage / (fraction + coverage))
    table.insert(1, "lift", fraction * index.n_tokens / max(len(inside), 1))
    table.insert(2, "fraction", fraction)
    table.insert(3, "coverage", coverage)
    return _best(_with_index(index, table).drop(columns="index_max"), "score", n)


def by_name(index: FeatureIndex, name: str, n: int) -> pd.DataFrame:
    """feature, name, match, fraction, density of the features that are called so, best first; see `search_names`."""
    if not name.strip():
        raise ConfigError("no name to search for", got=repr(name), accepted="a word or a few")
    found = search_names(index.names, index.automatic_names, index.labels_by_feature, name).head(n)
    return _with_index(index, found).drop(columns="index_max")


def by_token(index: FeatureIndex, runner: Runner | None, token: str, n: int) -> pd.DataFrame:
    """feature, token, rank (0: the token it promotes most) and effect, by effect.

    With the model at hand all features compete; without, those that have the token among the ten stored. The token is
    taken as written when it is one, else without regard to case and leading space.
    """
    ids = [i for i, shown in enumerate(index.vocabulary) if shown == token]
    if not ids:
        folded = token.strip().casefold()
        ids = [i for i, shown in enumerate(index.vocabulary) if folded and shown.strip().casefold() == folded]
        if not ids:
            near = [s for s in index.vocabulary if folded[:3] and s.strip().casefold().startswith(folded[:3])]
            raise unknown_name("token", token, near, fix="search(text=...) finds text of several tokens in the corpus")
    found = _promoting(index, ids) if runner is None else _effects(index, runner, ids, n)
    return _best(_with_index(index, found.set_index("feature")).drop(columns="index_max"), "effect", n)


@torch.inference_mode()
def _effects(index: FeatureIndex, runner: Runner, ids: Sequence[int], n: int) -> pd.DataFrame:
    """feature, token, rank, effect of the n features with the largest effect on the logit of any of these tokens."""
    if not len(next(index.promoted_ids())[1]):  # what lies here has no effect on logits of its own
        return _promoting(index, [])
    U = runner.model.unembedding().float()
    written = written_to_residual(runner.sae, runner.model, runner.hook_name)
    if written is None:  # the index has where this SAE writes, which its own file does not
        return _promoting(index, ids)
    W_dec, mean = written.detach().to(U.device, torch.float32), U.mean(1, keepdim=True)
    best = (W_dec @ (U[:, list(ids)] - mean)).amax(1).topk(min(n, len(W_dec))).indices
    effects = W_dec[best] @ (U - mean)
    effect, which = effects[:, list(ids)].max(1)
    return pd.DataFrame(
        {
            "feature": best.cpu().numpy(),
            "token": [index.vocabulary[ids[int(w)]] for w in which],
            "rank": (effects > effect[:, None]).sum(1).cpu().numpy(),
            "effect": effect.cpu().numpy(),
        }
    )


def _promoting(index: FeatureIndex, ids: Sequence[int]) -> pd.DataFrame:
    """feature, token, rank, effect of every feature that has one of these tokens among those it promotes most."""
    wanted = set(ids)
    rows = [
        {"feature": feature, "token": index.vocabulary[i], "rank": rank, "effect": float(effect)}
        for feature, promoted, effects in index.promoted_ids()
        for rank, (i, effect) in enumerate(zip(promoted.tolist(), effects, strict=True))
        if i in wanted
    ]
    return pd.DataFrame(rows, columns=["feature", "token", "rank", "effect"]).drop_duplicates("feature")


def _matches(index: FeatureIndex, text: str) -> np.ndarray:
    """For each token kept, the number of the match it lies in (counted over the corpus), or -1."""
    pattern = compiled(re.escape(text))
    match_of = np.full(index.n_windows * index.length, -1, np.int64)
    number = 0
    for begin, _, run in index.texts():
        for start, stop in tokens_of_matches(run, matches(pattern, run.text)):
            match_of[begin + start : begin + stop] = number
            number += 1
    kept: np.ndarray = match_of[index.kept]
    _, kept[kept >= 0] = np.unique(kept[kept >= 0], return_inverse=True)  # count only matches with a token kept
    return kept


def _with_index(index: FeatureIndex, table: pd.DataFrame) -> pd.DataFrame:
    """The table with each feature's index_max, density and promoted tokens behind it, feature and name before it."""
    known = index.features.loc[table.index.to_numpy()]
    table = table.copy()
    table.insert(0, "name", known["name"].to_numpy())
    table["index_max"] = known["max"].to_numpy()
    table["density"], table["promoted"] = known["density"].to_numpy(), known["promoted"].tolist()
    return table.rename_axis("feature").reset_index()


def _best(table: pd.DataFrame, column: str, n: int) -> pd.DataFrame:
    return table.sort_values([column, "feature"], ascending=[False, True]).head(n).reset_index(drop=True)
