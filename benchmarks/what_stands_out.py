"""Which definition of "stands out" picks the features that say most about a text?

    python benchmarks/what_stands_out.py --index FOLDER [--n 6] [--max-density 0.1]

Documents of an index are split in two: half of them give each feature's maximum and density, the other half are texts.
Of each text (at least 80 counted tokens) the first half chooses n features by a definition; the second half says
whether they were about this text:

    again      fraction of the chosen features that fire in the second half of the same text
    elsewhere  the same in the second halves of all other texts
    found      fraction of texts whose second half is first when second halves are ranked by how many of the chosen
               features fire there, each counted by its information -log2(fraction of second halves it fires in);
               ties count as the share of those tied
    rank       mean reciprocal rank of the same

A definition scores an activation; a feature has the sum, or the maximum, over the tokens of the half.

    raw        activation, dense features too: what the strongest activation of any feature shows
    raw, cut   activation, without features denser than --max-density
    relative   activation / maximum of the feature
    tf-idf     activation / maximum * -log2 density
    surprise   -log2 of the fraction of tokens on which the feature fires at least this strongly
    no index   activation * -log2 density, with the density known and no maxima
    text       activation * -log2 density, with densities from the half text alone (lower Wilson bound)

Intervals: 95 %, over texts, jackknife t.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np
import pandas as pd

import saekit as sk
from saekit.statistics import jackknife_estimate

MIN_TOKENS = 80


def lower_wilson(count: np.ndarray, n: int, z: float = 1.96) -> np.ndarray:
    """The lower end of Wilson's interval of a fraction."""
    p = count / n
    centre = p + z * z / (2 * n)
    return (centre - z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", required=True)
    parser.add_argument("--n", type=int, default=6)
    parser.add_argument("--max-density", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    index = sk.load_index(args.index)
    matrix = index.matrix
    document = index.windows.documents.numpy().reshape(-1)[index.kept]
    numbers = np.unique(document[document >= 0])
    reference = np.random.default_rng(args.seed).permutation(numbers)[: len(numbers) // 2]
    rows = matrix[np.isin(document, reference)].tocsc()
    n_reference = rows.shape[0]
    count = np.diff(rows.indptr)
    largest = np.maximum(rows.max(axis=0).toarray().ravel(), 0)
    density = (count + 1) / (n_reference + 2)
    bits = -np.log2(density)
    ordered = [np.sort(rows.data[rows.indptr[i] : rows.indptr[i + 1]]) for i in range(index.d_sae)]

    def surprise(feature: np.ndarray, value: np.ndarray, _: int) -> np.ndarray:
        at_least = [len(ordered[f]) - np.searchsorted(ordered[f], v) for f, v in zip(feature, value, strict=True)]
        return -np.log2((np.array(at_least) + 1) / (n_reference + 2))

    def text_bits(feature: np.ndarray, value: np.ndarray, n_tokens: int) -> np.ndarray:
        here = np.bincount(feature, minlength=index.d_sae)[feature]
        low = lower_wilson(here, n_tokens)
        return np.where(low > args.max_density, 0.0, value * -np.log2(low))

    Score = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
    floor = np.quantile(largest[largest > 0], 0.25)

    def relative(feature: np.ndarray, value: np.ndarray, least: float = 1e-9) -> np.ndarray:
        """With the larger of the maxima of the reference and of the text itself."""
        own = np.zeros(index.d_sae)
        np.maximum.at(own, feature, value)
        return value / np.maximum(np.maximum(largest, own), least)[feature]

    sparse_enough = density <= args.max_density
    definitions: dict[str, tuple[Score, bool]] = {
        "raw": (lambda f, v, n: v, False),
        "raw, cut": (lambda f, v, n: v, True),
        "relative": (lambda f, v, n: relative(f, v), True),
        "relative, floor": (lambda f, v, n: relative(f, v, floor), True),
        "tf-idf": (lambda f, v, n: relative(f, v) * bits[f], True),
        "tf-idf, floor": (lambda f, v, n: relative(f, v, floor) * bits[f], True),
        "rel2 x bits": (lambda f, v, n: relative(f, v, floor) ** 2 * bits[f], True),
        "act x rel x bits": (lambda f, v, n: v * relative(f, v, floor) * bits[f], True),
        "sqrt(act rel) bits": (lambda f, v, n: np.sqrt(np.maximum(v, 0) * relative(f, v, floor)) * bits[f], True),
        "act2 x bits": (lambda f, v, n: v**2 * bits[f], True),
        "surprise": (surprise, True),
        "rel x surprise": (lambda f, v, n: relative(f, v, floor) * surprise(f, v, n), True),
        "no index": (lambda f, v, n: v * bits[f], True),
        "text": (text_bits, False),
    }
    texts = [np.flatnonzero(document == n) for n in numbers if n not in set(reference.tolist())]
    texts = [t for t in texts if len(t) >= MIN_TOKENS]
    seconds = np.stack([np.asarray(matrix[t[len(t) // 2 :]].max(axis=0).todense()).ravel() > 0 for t in texts])
    information = -np.log2((seconds.sum(0) + 0.5) / (len(texts) + 1))
    print(f"{len(texts)} texts, reference {n_reference:,} tokens of {len(reference)} documents, {args.n} features each")
    table = []
    for name, (score, cut) in definitions.items():
        for total in ("sum", "max", "per token"):
            found = []
            for i, t in enumerate(texts):
                half = matrix[t[: len(t) // 2]].tocoo()
                value = score(half.col, half.data, half.shape[0]) * (sparse_enough[half.col] if cut else 1.0)
                of_feature = np.zeros(index.d_sae)
                if total == "per token":  # each token gives its best feature its score
                    order = np.lexsort((-value, half.row))
                    first = order[np.unique(half.row[order], return_index=True)[1]]
                    np.add.at(of_feature, half.col[first], value[first])
                else:
                    (np.add if total == "sum" else np.maximum).at(of_feature, half.col, value)
                chosen = np.argsort(-of_feature, kind="stable")[: args.n]
                fires = seconds[:, chosen]
                weight = fires @ information[chosen]
                above, tied = (weight > weight[i]).sum(), (weight == weight[i]).sum()
                others = np.delete(fires, i, axis=0).mean()
                found.append((fires[i].mean(), others, (above == 0) / tied, 1 / (above + (tied + 1) / 2)))
            array = np.array(found)
            row: dict[str, object] = {"definition": name, "feature has": total}
            for j, column in enumerate(("again", "elsewhere", "found", "rank")):
                row[column] = float(array[:, j].mean())
                row[f"{column}_sd"] = float(array[:, j].std(ddof=1) / np.sqrt(len(array)))
            table.append(row)
    frame = pd.DataFrame(table)
    print(frame.round(3).to_string(index=False))
    print(json.dumps({"benchmark": "what_stands_out", "n": args.n, "texts": len(texts), "rows": table}))


if __name__ == "__main__":
    main()
