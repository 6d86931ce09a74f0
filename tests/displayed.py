"""One object of every class that has a display, made on tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import saekit as sk
from conftest import HOOK, WORDS, tiny_config, tiny_texts


def displayed(model: Any, llama: Any, folder: Path) -> list[Any]:
    texts = [t | {"style": "story" if i // 4 % 2 else "note"} for i, t in enumerate(tiny_texts())]
    corpus, sae = sk.load_corpus(texts), sk.SAE(tiny_config(model))
    return [
        *_models(model, corpus, sae, folder),
        *_features(model, corpus, sae, folder),
        *_saebench(model, corpus, sae),
        *_steering(llama),
        *_synthetic(),
        *_scaling(),
        diagnosis := sk.doctor(),
        diagnosis.findings[0],
    ]


def _models(model: Any, corpus: sk.Corpus, sae: sk.SAE, folder: Path) -> list[Any]:
    config = sk.TrainConfig(n_tokens=640, batch_size=64, lr=1e-3, context_size=16)
    trainer = sk.Trainer(tiny_config(model), config)
    metrics = trainer.step(torch.randn(64, 32))
    configs = [tiny_config(model), tiny_config(model, k=8)]
    saes = sk.train(model, corpus, hook_name=HOOK, sae=configs, config=config, out=folder / "run", progress=False)
    evaluations = [sk.evaluate(model, s, corpus, length=32, progress=False) for s in saes]
    first, cache = (
        evaluations[0],
        sk.cache_activations(model, corpus, HOOK, folder / "cache", length=16, progress=False),
    )
    x = torch.randn(5, 32)
    objects = [model, model.facts, corpus, next(iter(corpus)), sk.tokenize(corpus, model, length=32), sae, sae.config]
    objects += [sae.config.token_filter, sae(x), sae.encode_sparse(x), config, metrics, trainer, saes, first]
    objects += [first.excluded, first.excluded.tokens[0], first.excluded.norms[0], sk.compare(saes, evaluations)]
    return [*objects, first.estimates["kl"], first.intervals["kl"], cache, cache.batches(batch_size=32)]


def _features(model: Any, corpus: sk.Corpus, sae: sk.SAE, folder: Path) -> list[Any]:
    index = sk.build_index(model, sae, corpus, out=folder / "index", length=32, progress=False)
    record = index.feature(int(index.features["density"].idxmax()))
    firings, concept = index.firings(record.feature), sk.Concept.regex("bridge")
    result = sk.specificity(index, int(sk.rank_features(index, concept, n=1, n_permutations=9).index[0]), concept)
    concepts = [concept, sk.Concept.labels(topic="bridge"), sk.Concept.keywords(["a", "b c"])]
    objects = [index, record, record.top[0], record.histogram, record.bins[-1], firings]
    return [*objects, index.at(int(firings.position[0])), *concepts, result, result.test, result.evidence[0]]


def _saebench(model: Any, corpus: sk.Corpus, sae: sk.SAE) -> list[Any]:
    known: dict[str, Any] = {"length": 16, "progress": False}
    saes = [sae, sk.SAE(tiny_config(model, seed=3))]
    probed = sk.sparse_probing(model, saes, corpus, label="topic", ks=(1, 2), **known)
    words = [a + b + c for a in "abcdef" for b in "aeiou" for c in "xyz"]
    return [
        probed[0],
        sk.compare_scores(probed),
        sk.targeted_probe_perturbation(model, sae, corpus, label="topic", ns=(2, 5), **known),
        sk.spurious_correlation_removal(model, sae, corpus, wanted="topic", spurious="style", ns=(2, 5), **known),
        sk.ablation_sparsity(model, sae, corpus, n_tokens=8, n_features=2, n_following=4, **known),
        sk.compute_fraction((3.0, 3.3), {"compute": [1e18, 1e19, 1e20, 1e21, 1e22], "loss": [4.3, 3.6, 3.2, 3, 2.8]}),
        sk.feature_absorption(model, sae, words=words, min_f1=0.3, progress=False),
    ]


def _steering(llama: Any) -> list[Any]:
    sae = sk.SAE(tiny_config(llama))
    edit = sk.clamp(sae, {3: 0.5}, unit="norm", where=sk.Where.fires(sae, 7), schedule=sk.Schedule.steps({0: 1, 8: 0}))
    prompts = [f"the {word} is" for word in WORDS[:10]]
    study = sk.dose_response(
        llama,
        sae,
        3,
        prompts,
        sk.Concept.regex("[a-m]"),
        [0.25, 0.5, 1.0],
        controls=3,
        max_new_tokens=4,
        progress=False,
    )
    objects = [edit, edit.where[0], edit.schedule, sk.Direction(torch.randn(32), hook_name=HOOK, name="mean")]
    objects += [sk.generate(llama, "the cat <b>", edits=[edit], max_new_tokens=4), sk.steered(llama, edit)]
    return [*objects, next(iter(sk.stream(llama, "the", max_new_tokens=1))), study, study.compare(), study.split]


def _synthetic() -> list[Any]:
    truth = sk.synthetic.hierarchical(d_model=16, n_features=64, n_active=3)
    sae = sk.SAE(sk.SAEConfig(d_in=16, d_sae=64, activation="topk", k=3))
    return [truth, truth.sample(50, torch.Generator().manual_seed(0)), sk.recovery(sae, truth, n_tokens=2000)]


def _scaling() -> list[Any]:
    grid = [(n, k, t) for n in (64, 128, 256, 512) for k in (4, 8) for t in (4096, 16384, 65536)]
    runs = pd.DataFrame(grid, columns=["width", "sparsity", "n_tokens"])
    law = 2 * runs.width**-0.4 * runs.sparsity**-0.1 + 0.3 * runs.sparsity**-0.5 + 30 * runs.n_tokens**-0.6
    runs["loss"] = law * np.exp(np.random.default_rng(0).normal(0, 0.002, len(runs)))
    study = sk.ScalingStudy(frame=runs, d_in=32, batch_size=64, n_unique=30_000)
    surface = study.fit_compute()
    return [study, study.fit_lnk(), surface, surface.best(float(np.median(surface.compute)), extrapolate=True)]
