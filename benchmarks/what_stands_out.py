"""Which definition of "stands out" picks the features that say most about a text?

    python benchmarks/what_stands_out.py --index FOLDER [--n 6] [--join 1] [--max-density 0.1] [--seed 0]

Documents of an index are split in two: half of them give each feature's maximum and density, the other half are texts.
Of each text (at least 80 counted tokens) the first half chooses n features by a definition; the second half says
whether they were about this text (--join 8: texts of eight documents, half of each):

    again      fraction of the chosen features that fire in the second half of the same text
    elsewhere  the same in the second halves of all other texts
    found      fraction of texts whose own second half comes first when all second halves are ranked by how many of the
               chosen features fire there, each counted by its information, -log2 of the fraction of second halves it
               fires in; one of k tied counts 1/k
    rank       mean reciprocal rank of the same

A definition scores each activation. A feature has the sum of its scores, the largest, the sum over the tokens on which
no other feature has a larger one ("first"), or that times the fraction of its firings in the half text beyond those
that its density leads one to expect ("beyond").

    raw        the activation; dense features too, as the strongest activation of any feature colours
    raw, cut   the activation, without features denser than --max-density, as all below
    relative   activation / the feature's maximum
    tf-idf     activation / maximum * -log2 density: what saekit uses, with "beyond"
    squared    (activation / maximum)^2 * -log2 density
    surprise   -log2 of the fraction of tokens on which the feature fires at least this strongly
    no index   activation * -log2 density: what is used with a stored density and no maxima
    text       activation * -log2 density with densities counted in the half text alone, by Wilson's lower bound

A maximum is at least the text's own and the lower quartile of all maxima. Intervals are 95 %, jackknife t over texts;
the last column is the paired difference in rank to tf-idf with "beyond". Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Literal

import numpy as np
import pandas as pd

import saekit as sk
from saekit.statistics import Estimate, jackknife_estimate
from saekit.widgets.highlight_standouts import lower_bound

MIN_TOKENS = 80
CHOSEN = ("tf-idf", "beyond")
Score = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def definitions_of(index: sk.FeatureIndex, rows: object, max_density: float) -> tuple[dict[str, Score], np.ndarray]:
    """Each definition, from features, activations and the number of tokens to scores; and the densities."""
    columns = rows.tocsc()  # type: ignore[attr-defined]
    n_tokens, count = columns.shape[0], np.diff(columns.indptr)
    maximum = np.maximum(columns.max(axis=0).toarray().ravel(), 0)
    maximum = np.maximum(maximum, np.quantile(maximum[maximum > 0], 0.25))
    bits = -np.log2((count + 1) / (n_tokens + 2))
    keep = bits >= -np.log2(max_density)
    ordered = [np.sort(columns.data[columns.indptr[i] : columns.indptr[i + 1]]) for i in range(index.d_sae)]

    def relative(feature: np.ndarray, value: np.ndarray) -> np.ndarray:
        own = maximum.copy()
        np.maximum.at(own, feature, value)
        return value / own[feature]

    def surprise(feature: np.ndarray, value: np.ndarray) -> np.ndarray:
        above = [len(ordered[f]) - np.searchsorted(ordered[f], v) for f, v in zip(feature, value, strict=True)]
        return -np.log2((np.array(above) + 1) / (n_tokens + 2))

    def of_text(feature: np.ndarray, value: np.ndarray, n: int) -> np.ndarray:
        low = lower_bound(np.bincount(feature, minlength=index.d_sae)[feature], n)
        return np.where(low > max_density, 0.0, value * -np.log2(low))

    definitions: dict[str, Score] = {
        "raw": lambda f, v, n: v,
        "raw, cut": lambda f, v, n: v * keep[f],
        "relative": lambda f, v, n: relative(f, v) * keep[f],
        "tf-idf": lambda f, v, n: relative(f, v) * bits[f] * keep[f],
        "squared": lambda f, v, n: relative(f, v) ** 2 * bits[f] * keep[f],
        "surprise": lambda f, v, n: surprise(f, v) * keep[f],
        "no index": lambda f, v, n: v * bits[f] * keep[f],
        "text": of_text,
    }
    return definitions, 2.0**-bits


def totals(how: str, token: np.ndarray, feature: np.ndarray, score: np.ndarray, density: np.ndarray) -> np.ndarray:
    """One number for each feature."""
    out, n_tokens, n_firings = np.zeros(len(density)), token.max() + 1, np.bincount(feature, minlength=len(density))
    if how == "largest":
        np.maximum.at(out, feature, score)
        return out
    if how in ("first", "beyond"):
        order = np.lexsort((feature, -score, token))
        order = order[np.unique(token[order], return_index=True)[1]]
        feature, score = feature[order], score[order]
    np.add.at(out, feature, score)
    return out * np.maximum(0, 1 - density * n_tokens / np.maximum(n_firings, 1)) if how == "beyond" else out


def mean(values: np.ndarray, scale: Literal["identity", "logit"] = "logit") -> Estimate:
    """The mean over texts with its interval; on the logit scale for what is from 0 to 1."""
    left_out = (values.sum() - values) / (len(values) - 1)
    return jackknife_estimate(float(values.mean()), left_out, scale=scale, unit="texts")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", required=True)
    parser.add_argument("--n", type=int, default=6)
    parser.add_argument("--join", type=int, default=1)
    parser.add_argument("--max-density", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    index = sk.load_index(args.index)
    matrix = index.matrix
    document = index.windows.documents.numpy().reshape(-1)[index.kept]
    numbers = np.unique(document[document >= 0])
    reference = np.random.default_rng(args.seed).permutation(numbers)[: len(numbers) // 2]
    rows = matrix[np.isin(document, reference)]
    texts = [np.flatnonzero(document == n) for n in np.setdiff1d(numbers, reference)]
    texts = [t for t in texts if len(t) >= MIN_TOKENS]
    joined = [texts[i : i + args.join] for i in range(0, len(texts) - args.join + 1, args.join)]
    firsts = [np.concatenate([t[: len(t) // 2] for t in group]) for group in joined]
    lasts = [np.concatenate([t[len(t) // 2 :] for t in group]) for group in joined]
    seconds = np.stack([np.asarray(matrix[t].max(axis=0).todense()).ravel() > 0 for t in lasts])
    information = -np.log2((seconds.sum(0) + 0.5) / (len(lasts) + 1))
    print(f"{len(lasts)} texts; reference: {rows.shape[0]:,} tokens of {len(reference)} documents; n = {args.n}")
    results: dict[tuple[str, str], np.ndarray] = {}
    definitions, density = definitions_of(index, rows, args.max_density)
    for name, score in definitions.items():
        found: dict[str, list[tuple[float, ...]]] = {how: [] for how in ("sum", "largest", "first", "beyond")}
        for i, t in enumerate(firsts):
            half = matrix[t].tocoo()
            scores = score(half.col, half.data, half.shape[0])
            own = lower_bound(np.bincount(half.col, minlength=index.d_sae), half.shape[0])
            for how, cells in found.items():
                of_feature = totals(how, half.row, half.col, scores, own if name == "text" else density)
                chosen = np.argsort(-of_feature, kind="stable")[: args.n]
                fires = seconds[:, chosen]
                weight = fires @ information[chosen]
                above, tied = (weight > weight[i]).sum(), (weight == weight[i]).sum()
                others = np.delete(fires, i, axis=0).mean()
                first = float(above == 0) / tied
                cells.append((fires[i].mean(), others, first, 1 / (above + (tied + 1) / 2)))
        results |= {(name, how): np.array(cells) for how, cells in found.items()}
    table = []
    for (name, how), array in results.items():
        row: dict[str, object] = {"definition": name, "feature has": how}
        for j, column in enumerate(("again", "elsewhere")):
            row[column] = round(float(array[:, j].mean()), 3)
        for j, column in ((2, "found"), (3, "rank")):
            row[column] = str(mean(array[:, j])).replace(f", {len(lasts)} texts", "")
        difference = mean(array[:, 3] - results[CHOSEN][:, 3], "identity")
        row["rank - chosen"] = "" if (name, how) == CHOSEN else str(difference).replace(f", {len(lasts)} texts", "")
        table.append(row)
    print(pd.DataFrame(table).to_string(index=False))
    print(json.dumps({"benchmark": "what_stands_out", "n": args.n, "texts": len(lasts), "rows": table}))


if __name__ == "__main__":
    main()
