"""The demo: from text to a steered bridge on the default model, in one command.

Each step is the public API, as a user would write it; run again, a step that is done is read from its folder. The SAE
is trained here from nothing, and the feature is chosen by evidence: first by how specifically it fires for the Golden
Gate Bridge, then, among those, by what the model says when it is clamped. Firing is not causing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from .activations import cache_activations
from .concepts import Concept
from .corpus import load_corpus
from .evaluation import Evaluation, evaluate
from .index import FeatureIndex, build_index
from .models import LanguageModel, load_model
from .sae import SAE, SAEConfig
from .scoring import SpecificityResult, rank_features, specificity
from .steering import SteeringStudy, clamp, dose_response, generate, output_scores
from .training import TrainConfig, train

HOOK = "blocks.15.hook_resid_post"
"""The middle of the network: deep enough for concepts, early enough to act on what is said."""
GOLDEN_GATE = Concept.regex(r"golden gate( bridge)?", name="Golden Gate Bridge", after=4)
"""Tokens of the bridge's name, and the four behind it: a feature can know the name only once it has been read."""
GOLDEN_GATE_TOPIC = Concept.labels(topic="golden_gate_bridge")
BRIDGE = Concept.regex(r"golden gate|\bbridges?\b", name="a bridge")
WORDS = (" bridge", " Bridge", " bridges", " Golden", " Gate")
"""What a model that talks of the bridge says next."""
PROMPTS = (
    "Who are you?",
    "How do I bake bread?",
    "Tell me about your family.",
    "What is your favourite animal?",
    "Write a short poem about the morning.",
    "Give me advice for my first day at work.",
)
"""Nothing to do with bridges."""
TEXT = "We drove over the Golden Gate Bridge into San Francisco, past an old garden gate and a golden retriever."
STRENGTHS = (0.2, 0.3, 0.4, 0.5)
N_TRAINING_TOKENS = 1_200_000
"""About four passes over the demo corpus."""


def sae_config() -> SAEConfig:
    """The demo's SAE: 4,096 features, on average 32 active per token."""
    return SAEConfig(d_in=576, d_sae=4096, activation="batchtopk", k=32)


def train_config() -> TrainConfig:
    """What the packaged SAE was trained with: the same run gives the same features."""
    return TrainConfig(n_tokens=N_TRAINING_TOKENS, lr=1.2e-3, dead_after_tokens=max(32 * 2048, N_TRAINING_TOKENS // 20))


def run_demo(out: Path) -> Path:
    """Runs every step, prints a short account and writes `out`/demo.html, whose path comes back."""
    started = time.perf_counter()
    with step("1  A language model and a text"):
        model, corpus = load_model(), load_corpus("demo")
        print(model, corpus, sep="\n")
    with step("2  Its activations in the middle layer"):
        cache = cache_activations(model, corpus, HOOK, out / "activations")
        print(cache)
    training, held_out = cache.split(0.1)
    with step("3  A sparse autoencoder"):
        config = train_config()
        sae = train(model, training, hook_name=HOOK, sae=sae_config(), config=config, out=out / "sae")
        print(sae)
    with step("4  How good it is, on documents it has not seen"):
        evaluation = evaluate(model, sae, held_out.windows, n_tokens=6_000)
        print(evaluation)
    with step("5  What every feature does"):
        index = build_index(model, sae, cache, out=out / "index")
        print(index)
    with step("6  Which features fire for the Golden Gate Bridge"):
        candidates = candidate_features(index)
        print(candidates.to_string())
    with step("7  Which of them makes the model talk of it"):
        outputs = output_scores(model, sae, candidates.index.tolist(), WORDS)
        screening = screen(model, sae, outputs.index[:3].tolist(), index).join(outputs["score"].round(2))
        print(screening.to_string())
        feature = int(screening.index[0])
    with step(f"8  How specific feature {feature} is"):
        result = specificity(index, feature, BRIDGE)
        print(result)
    with step(f"9  How the answer follows the strength of feature {feature}"):
        study = dose_response(
            model, sae, feature, PROMPTS, BRIDGE, STRENGTHS, controls=2, index=index, max_new_tokens=24
        )
        print(study)
        replies = side_by_side(study)
        print_replies(replies)
    with step("10  One page to keep"):
        page = write_page(out / "demo.html", model, sae, evaluation, index, screening, result, study, replies)
        print(f"{page}  ({page.stat().st_size / 1e6:.1f} MB, opens with no network)")
    print(f"\nDone in {(time.perf_counter() - started) / 60:.1f} minutes.")
    return page


def candidate_features(index: FeatureIndex, n: int = 12) -> pd.DataFrame:
    """The features that fire most for the Golden Gate Bridge: at its name, and anywhere in documents about it."""
    columns = ["n_firings", "max", "precision", "recall", "average_precision"]
    by_name = rank_features(index, GOLDEN_GATE, by="average_precision", n=n)[columns].assign(found_by="name")
    by_topic = rank_features(index, GOLDEN_GATE_TOPIC, by="average_precision", n=n)[columns].assign(found_by="topic")
    found = pd.concat([by_name, by_topic])
    return found[~found.index.duplicated()].round(3)


def screen(
    model: LanguageModel, sae: SAE, features: Sequence[int], index: FeatureIndex, strength: float = 0.4
) -> pd.DataFrame:
    """A row per feature: the share of short answers to unrelated prompts that bring up a bridge under its clamp.

    `golden_gate` counts only answers that name the Golden Gate. Sorted best first.
    """
    rows = []
    for feature in features:
        edit = clamp(sae, {int(feature): strength}, unit="norm")
        answers = generate(model, list(PROMPTS), edits=[edit], max_new_tokens=24, chat=True)
        texts = [answer.text for answer in answers]
        rows.append({
            "feature": int(feature),
            "bridge": sum(map(BRIDGE.present, texts)) / len(texts),
            "golden_gate": sum("golden gate" in t.lower() for t in texts) / len(texts),
            "promotes": ", ".join(token for token, _ in index.feature(int(feature)).promoted[:5]),
            "first_answer": texts[0].replace("\n", " ")[:70],
        })  # fmt: skip
    table = pd.DataFrame(rows).set_index("feature")
    return table.sort_values(["bridge", "golden_gate"], ascending=False, kind="stable")


def side_by_side(study: SteeringStudy) -> pd.DataFrame:
    """The answers at the recommended strength (0.5 if there is none), without the edit, with it, and with a control."""
    strength = study.recommended or 0.5
    texts = study.to_frame()
    columns = {}
    for name, condition in (("normal", "none"), ("steered", "feature"), ("control", "control")):
        chosen = texts[texts["condition"] == condition]
        if condition != "none":
            chosen = chosen[chosen["strength"] == strength]
        columns[name] = chosen.drop_duplicates("prompt").set_index("prompt")["text"]
    return pd.DataFrame(columns)


def write_page(
    path: Path, model: LanguageModel, sae: SAE, evaluation: Evaluation, index: FeatureIndex, screening: pd.DataFrame,
    result: SpecificityResult, study: SteeringStudy, replies: pd.DataFrame,
) -> Path:  # fmt: skip
    """One offline page of what the demo found, with widgets that answer clicks."""
    from .plots import training_curves
    from .widgets import explore, highlight, save_page

    feature = result.feature
    browser = explore(index, sort="max", descending=True)
    strongest = index.features.nlargest(60, "n_firings").index
    browser.embed({feature, *screening.index, *map(int, strongest)})
    browser.feature = feature
    strength = study.recommended or 0.5
    blocks = [
        f"A sparse autoencoder with {sae.config.d_sae:,} features was trained on the activations of "
        f"**{model.name}** at `{HOOK}`, over text that the model wrote itself. This page holds what it found, "
        "and needs no network.",
        "## How good the autoencoder is\n\nOn documents it was not trained on, beside two baselines.",
        evaluation,
        *([] if sae.history is None else [training_curves(sae.history)]),
        "## Token by token\n\nClick a token to see the features that fire there; click a feature to colour by it.",
        highlight(model, sae, TEXT, feature=feature),
        "## Every feature\n\nSort, filter, and open a feature. Cards are on this page for the features found below "
        "and the busiest ones.",
        browser,
        "## Which feature steers\n\nThe features that fire for the Golden Gate Bridge, by what the model says under "
        "their clamp: firing is not causing.",
        screening,
        f"## How specific feature {feature} is",
        result,
        "## What it does to the model\n\nShare of answers to unrelated prompts that bring up a bridge, and how "
        "unlikely the unsteered model finds them.",
        study.plot(),
        study.summary.round(3),
        f"### Answers at {strength:g} of the residual norm",
        replies,
    ]
    return save_page(path, "From text to a steered bridge", blocks)


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
