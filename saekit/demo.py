"""The demo: from text to a model steered to mention a bridge, in one command on the default model.

Each step calls the public API as a user would; a step that an earlier run finished is read from its folder. A small SAE
is trained and compared with the packaged one, whose features are then explored. The feature to steer with is chosen by
what it fires for, which words it promotes and what the model says while it is clamped, because a feature that fires for
a concept need not cause it. The rates reported are on prompts that played no part in the choice, beside twenty control
features.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from .activations import cache_activations, resolve_token_filter
from .corpus import load_corpus
from .evaluation import Evaluation, evaluate
from .evaluation.comparison import compare
from .index import FeatureIndex, build_index
from .models import LanguageModel, load_model
from .sae import SAE, SAEConfig, load_sae
from .specificity import SpecificityResult, specificity
from .specificity.concepts import Concept
from .steering import SteeringStudy, dose_response, steering_features
from .steering.questions import REPORTING_QUESTIONS, SCREENING_QUESTIONS
from .training import TrainConfig, train

if TYPE_CHECKING:
    from .widgets import FeatureBrowser

PACKAGED = "smollm2-135m-instruct/4k"
"""The SAE that is explored: layer 15, the middle of the network."""
BRIDGE = Concept.regex(r"golden gate|\bbridges?\b", name="a bridge")
WORDS = (" bridge", " Bridge", " bridges", " Golden", " Gate")
"""Next tokens of a model that writes about the bridge."""
PROMPTS = REPORTING_QUESTIONS[:10]
"""What is reported is counted on these; all twenty would take too long here."""
TEXT = "We drove over the Golden Gate Bridge into San Francisco, past an old garden gate and a golden retriever."
STRENGTHS = (0.25, 0.3, 0.35, 0.4, 0.45)
N_DOCUMENTS = 400
"""Of the demo corpus's 1,519 for training, about 92,000 tokens."""
N_CANDIDATES = 12
"""Features that fire for bridges, and as many that promote the words."""
N_SCREENED = 4
N_CARDS = 20
"""Cards of the busiest features on the page; with those of the rows that are shown first it stays below 3 MB."""


def small_sae() -> SAEConfig:
    """The SAE that the demo trains: 1,024 features, on average 32 active per token."""
    return SAEConfig(d_in=576, d_sae=1024, activation="batchtopk", k=32)


def run_demo(out: Path) -> Path:
    """The path of `out`/demo.html, written after every step has run and printed its result."""
    started = time.perf_counter()
    with step("1  A language model, a text, and an SAE that comes with saekit"):
        model, corpus, sae = load_model(), load_corpus("demo"), load_sae(PACKAGED)
        print(model, corpus, sae, sep="\n")
    with step("2  The model's activations where the SAE reads"):
        text = corpus.where(part="training").shuffle(0).take(N_DOCUMENTS)
        cache = cache_activations(
            model, text, str(sae.config.hook_name), out / "activations", token_filter=resolve_token_filter(model, sae)
        )
        print(cache)
    with step("3  A small SAE, trained from scratch on them"):
        small = train(model, cache, sae=small_sae(), config=TrainConfig(n_tokens=400_000), out=out / "sae")
        print(small)
    with step("4  How good both are, on documents that neither was trained on"):
        held_out = corpus.where(part="held_out")
        evaluations = evaluate(model, [small, sae], held_out, n_tokens=6_000)
        print(compare([small, sae], evaluations), evaluations[1], sep="\n")
    with step(f"5  What every feature of {PACKAGED} does"):
        index = build_index(model, sae, cache, out=out / "index")
        print(index)
    with step("6  Which features fire for bridges, and which promote the words for them"):
        candidates = steering_features(model, sae, index, BRIDGE, WORDS, n=N_CANDIDATES)
        print(candidates.round(3).to_string())
    with step("7  What the model says while the best of them are clamped"):
        screening = screen(model, sae, candidates.index[:N_SCREENED].tolist(), index)
        screening = screening.join(candidates[["input", "output", "output_low", "output_high"]].round(2))
        print(screening.to_string())
        feature, strength = int(screening.index[0]), float(screening["strength"].iloc[0])
    with step(f"8  How specific feature {feature} is"):
        result = specificity(index, feature, BRIDGE)
        print(result)
    with step(f"9  How the answers depend on the strength of feature {feature}, on prompts that did not choose it"):
        study = dose_response(
            model, sae, feature, PROMPTS, BRIDGE, STRENGTHS, choose=(), index=index, max_new_tokens=24
        )
        print(study, study.compare(strength), sep="\n")
        replies = side_by_side(study, strength)
        print_replies(replies)
    with step("10  One page to keep"):
        page = write_page(
            out / "demo.html", model, [small, sae], evaluations, index, screening, result, study, strength, replies
        )
        print(f"{page}  ({page.stat().st_size / 1e6:.1f} MB, opens with no network)")
    print(f"\nDone in {(time.perf_counter() - started) / 60:.1f} minutes.")
    return page


def screen(model: LanguageModel, sae: SAE, features: Sequence[int], index: FeatureIndex) -> pd.DataFrame:
    """A row per feature, best first: how often answers mention a bridge while it is clamped, and at which strength.

    The questions are the screening ones and the strength is what the study recommends. Where it recommends none, the
    text falls apart before it mentions a bridge, and the row is about the middle strength. `golden_gate` is the
    fraction of answers that name the Golden Gate.
    """
    rows = []
    for feature in features:
        study = dose_response(
            model,
            sae,
            int(feature),
            SCREENING_QUESTIONS,
            BRIDGE,
            STRENGTHS,
            controls=0,
            max_new_tokens=24,
            progress=False,
        )
        strength = study.recommended or STRENGTHS[len(STRENGTHS) // 2]
        texts = study.to_frame().query("condition == 'feature' and strength == @strength")
        rows.append(
            {
                "feature": int(feature),
                "strength": strength,
                "reads_well": study.recommended is not None,
                "bridge": texts["concept_present"].mean(),
                "golden_gate": texts["text"].str.contains("golden gate", case=False).mean(),
                "name": index.name(int(feature)),
                "promotes": ", ".join(token for token, _ in index.feature(int(feature)).promoted[:5]),
                "first_answer": texts["text"].iloc[0].replace("\n", " ")[:70],
            }
        )
    table = pd.DataFrame(rows).set_index("feature").round(3)
    return table.sort_values(["reads_well", "bridge", "golden_gate"], ascending=False, kind="stable")


def side_by_side(study: SteeringStudy, strength: float) -> pd.DataFrame:
    """A row per prompt: the answers without the edit, with it at `strength`, and with a control."""
    texts = study.to_frame()
    columns = {}
    for name, condition in (("normal", "none"), ("steered", "feature"), ("control", "control")):
        chosen = texts[texts["condition"] == condition]
        if condition != "none":
            chosen = chosen[chosen["strength"] == strength]
        columns[name] = chosen.drop_duplicates("prompt").set_index("prompt")["text"]
    return pd.DataFrame(columns)


def write_page(
    path: Path,
    model: LanguageModel,
    saes: Sequence[SAE],
    evaluations: Sequence[Evaluation],
    index: FeatureIndex,
    screening: pd.DataFrame,
    result: SpecificityResult,
    study: SteeringStudy,
    strength: float,
    replies: pd.DataFrame,
) -> Path:
    """The path of one offline page with the results and live widgets. `saes` is the small SAE and the packaged one."""
    from .training.plots import training_curves
    from .widgets import highlight, save_page

    small, sae = saes
    feature = result.feature
    browser = explored(index, feature, screening.index)
    rows = compare(saes, evaluations).to_frame().set_axis(["trained just now", PACKAGED])
    blocks = [
        f"A small sparse autoencoder was trained on the activations of **{model.name}** at `{sae.config.hook_name}`, "
        f"and the {sae.config.d_sae:,} features of a packaged one, `{PACKAGED}`, were explored. This page holds what "
        "was found and needs no network.",
        f"## What the model says with feature {feature} at {strength:g} of the residual norm\n\nThe same questions "
        "without the edit, with the feature clamped, and with another feature of similar density and maximum.",
        replies,
        "## How good the autoencoders are\n\nOn documents that neither was trained on.",
        rows[["n_tokens", "l0", "explained_variance", "ce_loss_recovered", "kl", "silent_fraction"]].round(3),
        "The packaged one, beside two baselines:",
        evaluations[1],
        *([] if small.history is None else ["The small one's training:", training_curves(small.history)]),
        "## Token by token\n\nClick a token to see the features that fire there; click a feature to colour by it.",
        highlight(model, sae, TEXT, feature=feature),
        "## Every feature\n\nSort, filter, and open a feature. Cards are on this page for the rows shown first, the "
        "features found below and the busiest ones.",
        browser,
        "## Which feature steers\n\nOf the features that fire for bridges or promote the words for them, those that "
        "raise the words most, by what the model says while they are clamped: firing is not causing. This table chose "
        f"the feature and its strength, on {len(SCREENING_QUESTIONS)} questions; what follows is on others. `output` "
        "is the change in the words' log-probability, in nats, after beginnings of answers that did not rank them.",
        screening,
        f"## How specific feature {feature} is",
        result,
        "## What it does to the model\n\nThe fraction of answers that mention a bridge, to prompts that played no part "
        "in the choice of feature and strength, and how unlikely the unsteered model finds the answers. Intervals are "
        "over prompts, and over features for the controls: twenty features of similar density and maximum, one answer "
        "each.",
        study.plot(),
        study.compare(strength).to_frame(),
        study.summary.round(3),
    ]
    return save_page(path, "From text to a steered bridge", blocks)


def explored(index: FeatureIndex, feature: int, others: Iterable[int]) -> FeatureBrowser:
    """The features with `feature` open, carrying its card, those of the others and of the busiest."""
    from .widgets import explore

    browser = explore(index, sort="max", descending=True)
    strongest = index.features.nlargest(N_CARDS, "n_firings").index
    browser.embed({feature, *map(int, others), *map(int, strongest)})
    browser.feature = feature
    return browser


def print_replies(replies: pd.DataFrame, n: int = 4) -> None:
    for prompt, row in replies.head(n).iterrows():
        print(f"\n  {prompt}")
        for name in ("normal", "steered"):
            print(f"    {name:<8}{' '.join(str(row[name]).split())}")


@contextmanager
def step(title: str) -> Iterator[None]:
    """A heading, and the time the step took."""
    print(f"\n\033[1m{title}\033[0m" if _colours() else f"\n{title}", flush=True)
    started = time.perf_counter()
    yield
    print(f"  [{time.perf_counter() - started:.0f} seconds]", flush=True)


def _colours() -> bool:
    import sys

    return sys.stdout.isatty()
