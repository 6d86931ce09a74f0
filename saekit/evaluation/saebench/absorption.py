"""Feature absorption by first letters: does the feature of a letter not fire where another feature absorbs it?

For every letter a linear probe on the activations at a word's token is the ground truth. The letter's main features are
found by k-sparse probing: the k features that fire more on its words, in order, as long as each step raises the F1 on
the training words by more than 0.03. Of the held-out words that begin with the letter and that the probe gets right, a
word is absorbed when every main feature is silent, the feature with the largest projection on the probe direction,
a_i * (W_dec_i . p), is aligned with it (cosine at least 0.025) and carries at least 0.4 of the word's own projection
x . p. The absorption fraction counts partial absorption too: the fraction of what main and absorbing features (cosine
at least 0.1, the three strongest) carry that the absorbing ones carry.

Sources: Chanin et al. 2024 (arXiv:2409.14507) for the effect; Karvonen et al. 2025 (SAEBench, arXiv:2503.09532) for
this form without ablation, and for all five numbers above and the bar of 0.6 on the probe's F1. Differences: main
features are ranked by difference of means where SAEBench trains a probe with an L1 penalty, and chosen on training
words where it uses the test words; its prompts begin with ten examples, see `letters`; a letter below the bar is not
scored, where SAEBench refuses the whole model when fewer than twenty letters pass. SAEBench projects x itself;
`centred=True` projects x - b_dec, which is what the features and the error add up to, and does not change when all
activations are shifted.

What becomes of each word is decided in `absorbed_words`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from ...activations import common_token_filter
from ...arguments import checks_arguments
from ...errors import ConfigError, DataError
from ...models import LanguageModel
from ...sae import SAE, common_prepend_bos
from ...sae.precision import doubles
from ...statistics import Estimate, jackknife_estimate
from .absorbed_words import absorbed, main_features
from .displays import absorption_html
from .letters import TEMPLATE, read_words, vocabulary_words
from .pooled import decoder, one_hook_point, several, writes_where_it_reads
from .probes import Matrix, fit_probe, split_rows
from .resolution import N_RESEEDS, headline, reseeds, resolution_text, smallest_difference

if TYPE_CHECKING:
    import plotly.graph_objects as go

MIN_F1 = 0.6
"""Of a letter's probe, below which the letter is not scored."""
MIN_WORDS = 10
"""Words of a letter below which it is not scored."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Absorption:
    """How often the main features of a first letter are silent where another feature carries it. Prints by letter."""

    sae: str
    table: pd.DataFrame
    """A row for each letter: n_words, probe_f1, main_features, n_right (held-out words the probe gets right),
    n_absorbed, rate and fraction with _low and _high (95 %, jackknife over the n_right words; none below five),
    absorbing_features, and `reason` where the letter is not scored."""
    rate: Estimate
    """Fraction of words absorbed, the mean over scored letters, with its 95 % interval over words; NaN when no letter
    is scored."""
    fraction: Estimate
    """Mean absorption fraction, likewise."""
    reseed_sd: float
    """Standard deviation of the rate between splits into training and held-out words."""
    smallest_difference: float
    """Between the rates of two SAEs that can be told."""
    words: pd.DataFrame
    """Each absorbed word: letter, word, absorbing feature, and its fraction of the projection."""
    template: str
    notes: tuple[str, ...] = ()

    def headline(self, at: int | None = None) -> dict[str, Any]:
        """The rate, and what it resolves."""
        row = {"rate": self.rate.value, "rate_low": self.rate.low, "rate_high": self.rate.high}
        row |= {"rate_sd": self.reseed_sd, "rate_resolves": self.smallest_difference}
        table = pd.DataFrame([{**row, "n_units": self.rate.n_units or 0}])
        return headline("words absorbed", table, "rate", unit="words", higher_is_better=False)

    @property
    def scored(self) -> list[str]:
        """The letters that are scored."""
        return [str(v) for v in self.table.index[self.table["reason"] == ""]]

    @property
    def able(self) -> bool:
        """Whether the model's activations say any word's first letter well enough."""
        return bool(self.scored)

    def to_frame(self) -> pd.DataFrame:
        """One row for each letter."""
        return self.table

    def plot(self) -> go.Figure:
        """The rate of absorption by letter, and the F1 of the letters' probes, as a plotly figure."""
        from .plots import plot_absorption

        return plot_absorption(self)

    def __repr__(self) -> str:
        shown = self.table.drop(columns=["absorbing_features", "main_features", "fraction_low", "fraction_high"])
        shown.insert(2, "n_main", [len(f) for f in self.table["main_features"]])
        lines = [f"Feature absorption by first letters: {len(self.scored)} of {len(self.table)} letters scored"]
        if self.able:
            lines.append(f"  absorbed {self.rate:.3f}; fraction {self.fraction:.3f}")
            lines.append(f"  absorbed: {resolution_text(self.reseed_sd, self.smallest_difference)}")
        else:
            lines.append("  the model is not able: no letter's probe reaches the bar")
        table = shown.to_string(float_format=lambda v: f"{v:.3f}", na_rep="-")
        return "\n".join([lines[0], f"  {self.sae}", *lines[1:], table, *self.notes])

    __str__ = __repr__
    _repr_html_ = absorption_html


def absorption_by_letter(
    x: Float[np.ndarray, "n d_in"],
    acts: Matrix,
    W_dec: Float[np.ndarray, "d_sae d_in"],
    letters: Sequence[str],
    words: Sequence[str],
    *,
    min_f1: float = MIN_F1,
    fraction_held_out: float = 0.3,
    seed: int = 0,
    centre: Float[np.ndarray, " d_in"] | None = None,
    probes: dict[str, Any] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[Any, Any]]:
    """(a row for each letter, a row for each absorbed word, (rate, fraction)).

    `probes` keeps the letters' probes between calls on the same words with other SAEs.
    """
    from sklearn.metrics import f1_score

    letter = np.array(letters)
    names = sorted(set(letters))
    enough = [name for name in names if (letter == name).sum() >= MIN_WORDS]
    kept = np.flatnonzero(np.isin(letter, enough))
    if len(enough) < 2:
        raise DataError(
            f"too few words: fewer than two letters have {MIN_WORDS}",
            got=len(letter),
            accepted="more words",
            fix="pass words=[...] with at least ten of each letter",
        )
    strata = np.array([enough.index(v) for v in letter[kept]])
    train, test = (kept[i] for i in split_rows(strata, fraction_held_out, seed))
    probes = {} if probes is None else probes
    table, found_words = [], []
    of_words: dict[str, list[Any]] = {"rate": [], "fraction": []}
    """Of each scored letter what every word counts."""
    for name in names:
        y = letter == name
        row: dict[str, Any] = {"letter": name, "n_words": int(y.sum()), "probe_f1": np.nan, "main_features": ()}
        if name not in enough:
            table.append({**row, "reason": f"fewer than {MIN_WORDS} words"})
            continue
        if name not in probes:
            probes[name] = fit_probe(x[train], y[train])
        right = probes[name].scores(x[test]) > 0
        row["probe_f1"] = float(f1_score(y[test], right, zero_division=0))
        if row["probe_f1"] < min_f1:
            reason = f"the model is not able: F1 {row['probe_f1']:.2f} of its probe is below {min_f1:g}"
            table.append({**row, "reason": reason})
            continue
        main = main_features(acts[train], y[train])
        classified = absorbed(
            x if centre is None else x - centre, acts, W_dec, probes[name].weight, main, test[right & y[test]]
        )
        mine = [w for w in classified if w.absorbed]
        found_words += [(name, words[w.row], w.feature, w.projection_fraction) for w in mine]
        of_words["rate"].append(np.array([w.absorbed for w in classified], dtype=float))
        of_words["fraction"].append(np.array([w.fraction for w in classified], dtype=float))
        common = tuple(f for f, _ in Counter(w.feature for w in mine).most_common(3))
        row |= {"main_features": tuple(int(f) for f in main), "n_right": len(classified), "n_absorbed": len(mine)}
        for key, each in of_words.items():
            found = _mean_over_letters(each[-1:])
            row |= {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}
        table.append({**row, "absorbing_features": common, "reason": ""})
    frame = pd.DataFrame(table, columns=COLUMNS).set_index("letter")
    frame["absorbing_features"] = [v if isinstance(v, tuple) else () for v in frame["absorbing_features"]]
    frame = frame.astype({"n_right": "Int64", "n_absorbed": "Int64"})
    words_frame = pd.DataFrame(found_words, columns=["letter", "word", "feature", "projection_fraction"])
    return frame, words_frame, (_mean_over_letters(of_words["rate"]), _mean_over_letters(of_words["fraction"]))


def _mean_over_letters(of_words: Sequence[Any]) -> Estimate:
    """The mean over letters of the mean over words [letter][word], with the jackknife's interval over words."""
    known = [v for v in of_words if len(v)]
    if not known:
        return Estimate(np.nan, reason="no letter is scored", n_units=0, unit="words")
    means = np.array([v.mean() for v in known])
    without = []
    for v, own in zip(known, means, strict=True):
        others = (v.sum() - v) / (len(v) - 1) if len(v) > 1 else np.full(1, np.nan)
        without.append(means.mean() + (others - own) / len(known))
    strata = np.repeat(np.arange(len(known)), [len(v) for v in known])
    return jackknife_estimate(float(means.mean()), np.concatenate(without), strata=strata, unit="words")


COLUMNS = [
    "letter",
    "n_words",
    "probe_f1",
    "main_features",
    "n_right",
    "n_absorbed",
    "rate",
    "rate_low",
    "rate_high",
    "fraction",
    "fraction_low",
    "fraction_high",
    "absorbing_features",
    "reason",
]


@overload
def feature_absorption(
    model: LanguageModel,
    sae: SAE,
    *,
    words: Sequence[str] | None = ...,
    n_words: int = ...,
    template: str = ...,
    min_f1: float = ...,
    centred: bool = ...,
    fraction_held_out: float = ...,
    hook_name: str | None = ...,
    n_reseeds: int = ...,
    seed: int = ...,
    progress: bool = ...,
) -> Absorption: ...
@overload
def feature_absorption(
    model: LanguageModel,
    sae: Sequence[SAE],
    *,
    words: Sequence[str] | None = ...,
    n_words: int = ...,
    template: str = ...,
    min_f1: float = ...,
    centred: bool = ...,
    fraction_held_out: float = ...,
    hook_name: str | None = ...,
    n_reseeds: int = ...,
    seed: int = ...,
    progress: bool = ...,
) -> list[Absorption]: ...
@checks_arguments
def feature_absorption(
    model: LanguageModel,
    sae: SAE | Sequence[SAE],
    *,
    words: Sequence[str] | None = None,
    n_words: int = 2000,
    template: str = TEMPLATE,
    min_f1: float = MIN_F1,
    centred: bool = False,
    fraction_held_out: float = 0.3,
    hook_name: str | None = None,
    n_reseeds: int = N_RESEEDS,
    seed: int = 0,
    progress: bool = True,
) -> Absorption | list[Absorption]:
    """How often a first letter's main features are silent where another carries it; a list for a list of SAEs.

    `words` None draws `n_words` whole words from the vocabulary; a word is put into `template` as it is, so give it its
    space, and read at its last token. A letter whose probe has a held-out F1 below `min_f1`, or fewer than ten words,
    is not scored, and says so; when none is, the model is not able. `n_reseeds` further splits into training and
    held-out words give the reseed noise. Raises ConfigError for a template without {word}, a
    word that does not begin with a letter or a transcoder, DataError for too few words.

    >>> words = [a + b for a in "cd" for b in "aeiou" for _ in range(4)]
    >>> sk.feature_absorption(model, sae, words=words, progress=False).table.index.tolist()
    ['c', 'd']
    """
    saes, seeds = several(sae), reseeds(seed, n_reseeds)
    writes_where_it_reads(saes, "feature absorption")
    hook_name = one_hook_point(model, saes, hook_name)
    if not 0 <= min_f1 <= 1:
        raise ConfigError("min_f1 is not an F1", got=min_f1, accepted="0 to 1")
    if words is not None and (isinstance(words, str) or not isinstance(words, Iterable)):
        raise ConfigError("words is no list", got=f"{words!r:.80}", accepted="a list of words, or None")
    chosen = vocabulary_words(model, n_words, seed) if words is None else list(words)
    token_filter = common_token_filter(model, saes, hook_name)
    read = read_words(
        model,
        chosen,
        hook_name,
        token_filter,
        template=template,
        prepend_bos=common_prepend_bos(s.config for s in saes),
        progress=progress,
    )
    notes = (f"{read.n_left_out} words are left out: {token_filter.describe()}",) if read.n_left_out else ()
    probes: list[dict[str, Any]] = [{} for _ in seeds]
    out = []
    for s in saes:
        b_dec = doubles(s.b_dec.detach()).cpu().numpy()
        acts, W_dec, centre = encode(s, read.x), decoder(s), b_dec if centred else None
        options: dict[str, Any] = {"min_f1": min_f1, "fraction_held_out": fraction_held_out, "centre": centre}
        every = [
            absorption_by_letter(read.x, acts, W_dec, read.letters, read.words, seed=v, probes=known, **options)
            for v, known in zip(seeds, probes, strict=True)
        ]
        table, found, means = every[0]
        noise = smallest_difference([means[0].value for _, _, means in every], means[0].low, means[0].high)
        out.append(
            Absorption(
                sae=repr(s).split("\n")[0],
                table=table,
                rate=means[0],
                fraction=means[1],
                reseed_sd=noise[0],
                smallest_difference=noise[1],
                words=found,
                template=template,
                notes=notes,
            )
        )
    return out[0] if isinstance(sae, SAE) else out


def encode(sae: SAE, x: Float[np.ndarray, "n d_in"]) -> Matrix:
    """Feature activations as a scipy sparse array [n, d_sae]."""
    from scipy import sparse

    acts = sae.encode_sparse(torch.from_numpy(x).to(sae.W_dec))
    token, feature, value = (t.cpu().numpy() for t in (acts.token, acts.feature, doubles(acts.value)))
    return sparse.coo_array((value, (token, feature)), shape=(len(x), acts.d_sae)).tocsr()
