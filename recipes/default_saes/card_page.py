"""The card of a packaged SAE as a page: CARD.md out of the values in card.json."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

import saekit as sk
from saekit.activations import ExcludedTokens
from saekit.statistics import MIN_UNITS, clustered_proportion

from ..results import fixed, markdown_table
from ..split import HELD_OUT
from . import judging, mixture
from .concepts import NAMED_CONCEPTS
from .harvest import LENGTH, matmul_dtype_of

EARLIER = (
    "; where it says nothing they\nare bootstraps over documents of an earlier measurement, and loss recovered follows "
    "from its cross-entropies"
)
"""Of metrics that were measured before intervals were jackknife t intervals and zeros stood at every position."""
TEXTS = {"held_out": "held-out documents", "other": "other prose", "demo_held_out": "its own text"}
"""What fidelity is measured on."""
N_DEMO_TOKENS = 6_000
"""Tokens of the demo corpus that fidelity is measured on."""
N_CONCEPT_DOCUMENTS = 900
"""Documents of the demo corpus, from the first, that concepts are measured on."""
CARD = """# {name}

{d_sae:,} features of `{hook}` in {model}, weight processing {processing}.
Architecture {architecture}, about {l0:.0f} active per token.
{bytes:,} bytes in float16, sha256 `{sha256}`. Seed {seed}, saekit at commit `{commit}`.

## Measured, as stored

{metrics}

95 % intervals are jackknife t intervals over documents, as many as the last column says{remark}.
"Loss recovered" has the SAE at the tokens that its filter keeps and, "everywhere", at every position; zeros stand at
every position for both, as in published figures, and leave this model with a uniform guess, ln 49,152 = 10.803 nats. On
the tokens that the filter leaves out the SAE was not trained, and the model needs them. Held out are {share:.0%} of the
documents of every source, chosen by a hash of their text; "other prose" is of kinds that the mixture does not hold
({other}). "Its own text" is the held-out part of the demo corpus, so that anyone can measure it again:
`sk.evaluate(model, sae, sk.load_corpus("demo").where(part="held_out"), n_tokens={n_demo}, length={length})`.

Tokens that the filter leaves out of a text:

{excluded}

Dead in training (silent for {dead_after:,} tokens): {dead} ({dead_fraction:.2%}); silent in the {n_evidence:,} tokens
that concepts are measured on: {silent} ({silent_fraction:.2%}).

## Data

{n_text:,} tokens of text, of which {n_trained:,} tokens were drawn in training ({epochs:.1f} passes).
The model wrote `own` (over several hundred topics, in its chat template and without) and `demo`, {own_fraction:.0%} of
it; the rest is from Debian packages and Python {python}, was used to train and measure only, and is not part of saekit.
{doubles} duplicates were left out, and {near} documents that mostly repeat judged text.

{sources}

Packages: {packages}.

## Recipe

Windows of {length} tokens; left out: {token_filter}. The model's matrix products were {matmul_dtype}{distance}; its
activations were stored in float16. The three widths were trained on one stream of tokens:

```
{recipe}
```

The same with the commands of today's repository, from an empty folder:

```
{commands}
```

## Concepts

{n_reached} of {n_concepts} named concepts have a feature with AUROC above {auroc} and precision above {precision} in
the highest tenth of its range ("top precision"). They are measured on {texts}, every token or, by its strongest token,
every document. A feature is chosen on one half of the documents, the best of all by average precision (of the first
{n_candidates}, the first with an AUROC above {auroc} there, if any has), and every figure is of the other half, the
halves of `sk.rank_features` and `sk.specificity`. Intervals are 95 % jackknife t intervals over the documents that a
figure is about, as many as stand behind them, and there is none below {min_units}. "Matched" are {n_controls_matched}
features of like density and maximum (mean, best). "p" is the fraction of {n_permutations} permutations of labels among
documents for which the best of all features is as good by document as this one.{measured_again}{mentioned}

{concepts}

{golden}

## Twenty features

Measured as above. Contexts are from the demo corpus, which the model wrote, the firing token in brackets, with its
activation.

{features}

## Known limits

One layer of one small model. {own_fraction:.0%} of the text is the model's own and most of the rest is English manuals,
fiction, dictionaries and code of a few packages; text unlike these is reconstructed less well, see "other prose". One
seed: another gives other features. A feature that fires for a concept need not cause it. The demo corpus has many
documents on the concepts' topics, and most of it was trained on: in other text concepts are rarer, and precision there
is lower. A figure without an interval is of fewer than {min_units} documents, and may be of a single one.
"""


def page(card: dict[str, Any]) -> str:
    """CARD.md of the values in card.json."""
    data, summary, config = card["data"], card["training"], card["train_config"]
    sources = pd.DataFrame(data["sources"])
    total = int(sources["mixture_tokens"].sum())
    shown = sources[sources["other_tokens"] == 0]
    table = pd.DataFrame(
        {
            "source": shown["source"],
            "kind": shown["kind"],
            "language": shown["language"],
            "documents": shown["mixture_documents"].map("{:,}".format),
            "tokens": shown["mixture_tokens"].map("{:,}".format),
            "share": (shown["mixture_tokens"] / total).map("{:.1%}".format),
            "held-out tokens": shown["held_out_tokens"].map("{:,}".format),
        }
    )
    evidence = card["evidence"]
    far = [d["relative_error"] for d in card["harvest"]["distance"] if f".{d['layer']}." in card["hook_name"]]
    dead, architecture = int(summary["dead_features"]), card["activation"]
    shown_config = ("n_tokens", "batch_size", "decay_fraction", "grad_clip", "normalise", "seed")
    dead_after = sk.TrainConfig(**config).dead_after
    recipe = {"lr": card["lr"], **{k: config[k] for k in shown_config}, "dead_after_tokens": dead_after}
    architecture += f", k {card['k']}" if card["k"] else ""
    architecture += f", nested {card['matryoshka']}" if card["matryoshka"] else ""
    return CARD.format(
        name=card["name"],
        d_sae=card["d_sae"],
        hook=card["hook_name"],
        model=card["model"],
        processing=card["weight_processing"],
        architecture=architecture,
        l0=card["metrics"]["held_out"]["l0"],
        bytes=card["weights"]["bytes"],
        sha256=card["weights"]["sha256"],
        seed=card["seed"],
        commit=card["commit"],
        metrics=_metrics(card["metrics"]),
        remark=EARLIER if any("n_units" not in m for m in card["metrics"].values()) else "",
        excluded=_excluded(card["metrics"]),
        share=HELD_OUT,
        other=", ".join(sources.loc[sources["other_tokens"] > 0, "kind"]),
        n_demo=N_DEMO_TOKENS,
        length=LENGTH,
        dead_after=dead_after,
        dead=dead,
        dead_fraction=dead / card["d_sae"],
        n_evidence=sum(text["n_tokens"] for text in evidence["texts"].values()),
        silent=evidence["silent"],
        silent_fraction=evidence["silent"] / card["d_sae"],
        n_text=total,
        n_trained=card["n_tokens"],
        epochs=card["n_tokens"] / total,
        python=data["python"],
        own_fraction=sources["mixture_tokens"][sources["source"].isin(mixture.OWN_SOURCES)].sum() / total,
        doubles=data["doubles_dropped"],
        near=data["near_doubles_dropped"],
        sources=markdown_table(table),
        packages=", ".join(f"{name} {version}" for name, version in data["packages"].items()),
        token_filter=sk.TokenFilter.from_dict(card["token_filter"]).describe().removeprefix("tokens excluded: "),
        matmul_dtype=matmul_dtype_of(card["harvest"]),
        distance=f" (relative error {far[0]:.4f} against float32)" if far else "",
        recipe=json.dumps(recipe, indent=1),
        commands="\n".join(card["commands"]),
        n_reached=evidence["n_reached"],
        n_concepts=evidence["n_measured"],
        auroc=judging.MIN_AUROC,
        precision=judging.MIN_PRECISION,
        texts=_texts(evidence["texts"]),
        n_candidates=judging.N_CANDIDATES,
        min_units=MIN_UNITS,
        n_controls_matched=max(row.get("n_controls", 0) for row in card["concepts"].values()),
        n_permutations=judging.N_PERMUTATIONS,
        measured_again=_measured_again(card),
        mentioned=_mentioned(card["concepts"]),
        concepts=judging.table(card),
        golden=_golden(card["golden_gate"]),
        features="\n\n".join(map(_feature, card["features"])),
    )


def _metrics(measured: dict[str, Any]) -> str:
    """The fidelity on each text as a table."""
    rows = []
    for text, title in TEXTS.items():
        m = measured[text]
        cells = {
            column: f"{m[key]:.3f}{_interval(m['intervals'].get(key))}" if key in m else "-"
            for column, key in (
                ("explained variance", "explained_variance"),
                ("loss recovered", "ce_loss_recovered"),
                ("everywhere", "ce_loss_recovered_everywhere"),
                ("L0", "l0"),
                ("KL", "kl"),
            )
        }
        losses = ("ce_clean", "ce_sae", "ce_sae_everywhere", "ce_zero")
        ce = " / ".join(f"{m[key]:.3f}" if key in m else "-" for key in losses)
        over = f"{m['n_tokens']:,}" + (f" of {m['n_units']} {m['unit']}" if "n_units" in m else "")
        rows.append({"text": title, **cells, "CE clean / SAE / everywhere / zero": ce, "tokens": over})
    return markdown_table(pd.DataFrame(rows))


def _interval(ends: list[float | None] | None) -> str:
    """The ends in brackets; nothing where there is no interval."""
    return "" if ends is None or ends[0] is None else f" [{ends[0]:.3f}, {ends[1]:.3f}]"


def _excluded(measured: dict[str, Any]) -> str:
    """What the token filter left out of each text, a row each."""
    rows = []
    for text, title in TEXTS.items():
        if "excluded" not in measured[text]:
            continue
        excluded = ExcludedTokens.from_dict(measured[text]["excluded"])
        words = [t for t in excluded.tokens if not t.special][:3]
        (norm,) = excluded.norms
        rows.append(
            {
                "text": title,
                "special": f"{excluded.n_special:,}",
                "by norm": f"{excluded.n_sinks:,} ({excluded.sink_fraction:.2%})",
                "of which": ", ".join(f"`{t.token}` {t.n_excluded:,} of {t.n:,}" for t in words) or "-",
                "of the norm": f"{norm.norm_fraction:.1%}",
                "of the squared norm": f"{norm.squared_norm_fraction:.1%}",
            }
        )
    return markdown_table(pd.DataFrame(rows))


def _texts(texts: dict[str, Any]) -> str:
    """What concepts are measured on."""
    of = {name: f"{text['n_documents']:,} documents, {text['n_tokens']:,} tokens" for name, text in texts.items()}
    said = f"the demo corpus (its first {of['demo']}; it is in random order)"
    if "packages" in of:
        said += (
            f" or, where fewer than {judging.MIN_DOCUMENTS} of these documents hold a concept, on up to "
            f'{mixture.N_RARE} documents of packages for each such concept ("packages": {of["packages"]})'
        )
    return said


def _measured_again(card: dict[str, Any]) -> str:
    """How anyone can measure a concept of the demo corpus again: the one of the first feature shown."""
    row = card["concepts"]["bridges"]
    if row["feature"] is None or row["text"] != "demo":
        return ""
    (concept,) = (c for c in NAMED_CONCEPTS if c.name == "bridges")
    return (
        f' For "bridges":\n\n```python\nmodel, sae = sk.load_model(), sk.load_sae("{card["name"]}")\n'
        f'index = sk.build_index(model, sae, sk.load_corpus("demo").take({N_CONCEPT_DOCUMENTS}), '
        f'out="index", length={LENGTH})\n'
        f'sk.specificity(index, {row["feature"]}, sk.Concept.regex(r"{concept.in_text.pattern}"))\n```'
    )


def _mentioned(found: dict[str, Any]) -> str:
    """What the columns on steering mean; nothing where no concept was steered."""
    steered = [row["steering"] for row in found.values() if row.get("steering")]
    if not steered:
        return ""
    return (
        f'\n\n"Mentioned" is the fraction of {len(judging.UNRELATED_QUESTIONS)} unrelated questions whose answers '
        f"mention the concept with the feature clamped to {judging.STRENGTH} of the residual norm, beside "
        f"{steered[0]['n_controls']} matched features and no edit."
    )


def _rate(counts: dict[str, float]) -> str:
    """The rate of answers with a bridge, one to a question, with its interval."""
    n, hits = int(counts["n"]), int(counts["bridge"])
    return str(clustered_proportion([1] * hits + [0] * (n - hits), [1] * n, unit="questions"))


def _rate_of_features(controls: dict[str, int]) -> str:
    """The fraction of matched features that make any answer mention a bridge, with its interval over features."""
    hits = sum(n > 0 for n in controls.values())
    return str(clustered_proportion([1] * hits + [0] * (len(controls) - hits), [1] * len(controls), unit="features"))


def _golden(final: dict[str, Any]) -> str:
    """What clamping the steering features did, a paragraph each, and how it differs from notebook 04."""

    def of(counts: dict[str, float], key: str) -> str:
        return f"{counts[key]:.0f} of {counts['n']:.0f}"

    lines = []
    for feature, found in final.items():
        edited, control, none = (found["counts"][name] for name in ("feature", "control", "none"))
        lines.append(
            f"Feature {feature}, as `golden-gate` measured it: clamped to {found['strength']:g} of the residual norm, "
            f"one greedy answer of 40 tokens to each of {none['n']:.0f} unrelated questions, {of(edited, 'bridge')} "
            f"mention a bridge ({_rate(edited)}), {edited['golden_gate']:.0f} the Golden Gate, "
            f"unedited {of(none, 'bridge')} ({_rate(none)}). Of {len(found['controls'])} matched features at the same "
            f"strength {sum(n > 0 for n in found['controls'].values())} do so in any of {control['n']:.0f} answers "
            f"({_rate_of_features(found['controls'])}). "
            f"Negative log-likelihood of the answers {edited['nll']:.2f} nats a token (unedited {none['nll']:.2f}), "
            f"repeated 4-grams {edited['repetition']:.1%}. Notebook 04 is another setting, a gentler strength that "
            "other questions chose and sampled answers, with figures of its own."
        )
    return "\n\n".join(lines)


def _feature(row: dict[str, Any]) -> str:
    """A feature with its evidence and its contexts."""
    top = "" if row["top_precision"] is None else f", top precision {judging.interval(row, 'top_precision')}"
    tokens = " ".join(f"`{token}`" for token in row["promotes"] if "`" not in token)
    promotes = tokens.replace("\r\n", "↵").replace("\n", "↵").replace("\r", "↵")
    quoted = "\n".join(f"    {c['activation']:8.2f}  {c['text']}" for c in row["contexts"])
    text, rare = "", ""
    if row["text"] != "demo":
        text, rare = f" of {row['text']}", ". Not examples of it: the demo corpus has hardly any"
    return (
        f"**{row['feature']}** {row['fires_for']}: AUROC {judging.interval(row, 'auroc', 3)}, {row['n_positive']:,} "
        f"{row['unit']}s{text} (matched {fixed(row['controls_auroc'])}){top}, density {row['density']:.3%}. Promotes "
        f"{promotes}{rare}\n\n{quoted or '    (silent in the demo corpus)'}"
    )
