"""What gpu_check.py runs: two small random models, a random SAE, and a call of every function that uses them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import saekit as sk
from saekit.models import LanguageModel
from saekit.models.likelihood import negative_log_likelihood
from saekit.steering.readout import TextSample, cost, read

HOOK = "blocks.0.hook_resid_post"
TEXT = "the golden gate is red"
PROMPTS = ["the cat", "golden gate bridge in the fog"]
WORDS = ["the", "golden", "gate", "is", "red", "cat", "sat", "on", "mat", "fog", "of", "bay", "while", "rain", "fell"]
Check = Callable[[], Any]


def tokenizer() -> Any:
    """One token for each character."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<bos>", "<eos>", "<pad>", "<unk>"]
    characters = [*special, "\n", *map(chr, range(32, 127))]
    tokens = Tokenizer(models.WordLevel({c: i for i, c in enumerate(characters)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokens.decoder = decoders.Fuse()
    names = dict(zip(("bos_token", "eos_token", "pad_token", "unk_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokens, **names)


def native(device: str, dtype: torch.dtype) -> LanguageModel:
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    torch.manual_seed(0)
    config = TransformerBridgeConfig(
        d_model=32,
        d_head=8,
        n_layers=2,
        n_ctx=64,
        n_heads=4,
        d_vocab=128,
        act_fn="gelu",
        d_mlp=64,
        normalization_type="LN",
        seed=0,
        device="cpu",
    )
    bridge = TransformerBridge.boot_native(config)
    bridge.tokenizer = tokenizer()
    bridge.to(device=torch.device(device), dtype=dtype)
    return sk.load_model(bridge)


def llama(device: str, dtype: torch.dtype) -> LanguageModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=128,
        max_position_embeddings=96,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        initializer_range=0.3,
    )
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        model = sk.load_model(folder, device=device, dtype=dtype)
    model.name = "tiny-llama"
    return model


MODELS = {"native": native, "llama": llama}


def texts() -> sk.Corpus:
    """Made-up documents, a half of them about a bridge."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(48):
        words = list(rng.choice(WORDS, 9))
        words[3:3] = ["golden", "gate", "bridge"] if i % 4 in (0, 3) else []
        labels = {"topic": "bridge" if i % 4 in (0, 3) else "other", "style": "story" if i % 2 else "note"}
        rows.append({"text": " ".join(words), **labels})
    return sk.load_corpus(rows, name="made up")


def random_sae(model: LanguageModel, seed: int = 0) -> sk.SAE:
    """A relu SAE: unlike topk, its activations change little where the dtype does."""
    return sk.SAE(
        sk.SAEConfig(
            d_in=32,
            d_sae=64,
            activation="relu",
            hook_name=HOOK,
            model_name=model.name,
            token_filter=sk.TokenFilter(special_ids=(0, 1, 2, 3)),
            seed=seed,
        )
    )


def checks(model: LanguageModel, sae: sk.SAE, other: sk.SAE, folder: Path) -> Iterator[tuple[str, Check]]:
    """Each function under its name, as a call that gives the numbers to compare; None where they may differ."""
    corpus, quiet = texts(), {"progress": False}
    concept = sk.Concept.keywords(["golden gate"])
    cut: dict[str, Any] = {"length": 32, **quiet}
    few: dict[str, Any] = {**cut}
    made: dict[str, Any] = {}

    def index() -> sk.FeatureIndex:
        if "index" not in made:
            made["index"] = sk.build_index(model, sae, corpus, out=folder / "index", **cut)
        return made["index"]

    def cache() -> sk.ActivationCache:
        if "cache" not in made:
            made["cache"] = sk.cache_activations(model, corpus, HOOK, folder / "cache", **cut)
        return made["cache"]

    def direction() -> sk.Direction:
        return sk.mean_difference(model, sae, index(), concept, n_tokens=2000, **quiet)

    def written(edits: Any, **settings: Any) -> Any:
        """Logits under edits; the same edits must be able to write, too."""
        calm = sk.steered(model, edits)
        for of in (model, calm):
            sk.generate(of, PROMPTS, edits=edits, max_new_tokens=4, **settings)
        return calm.forward([model.tokenize(TEXT)])[0]

    def trained(activation: str, source: Any = corpus, **fields: Any) -> None:
        k = 4 if "k" in sk.sae.ARCHITECTURES[activation].needs else None
        config = sk.SAEConfig(d_in=32, d_sae=64, activation=activation, k=k)
        on = sk.TrainConfig(n_tokens=512, batch_size=64, context_size=16, device=str(sae.W_dec.device), **fields)
        found = sk.train(model, source, sae=config, config=on, hook_name=HOOK, **quiet)
        assert isinstance(found, sk.SAE) and all(bool(p.isfinite().all()) for p in found.parameters())

    def panel() -> None:
        shown = sk.steer(model, sae, feature=3, index=index(), prompt="the cat", max_new_tokens=4)
        shown.run(wait=True)
        assert not getattr(shown, "error", ""), shown.error

    def firings(**question: Any) -> Any:
        return index().search(model=model, sae=sae, **question).iloc[:5].select_dtypes("number").to_numpy()

    yield "activations", lambda: model.activations([model.tokenize(TEXT)], HOOK)
    yield "two hook points", lambda: model.activations([model.tokenize(TEXT)], (HOOK, "blocks.1.mlp.hook_out"))
    yield "logits", lambda: model.forward([model.tokenize(TEXT)])[0]
    yield "unembedding", model.unembedding
    yield "evaluate", lambda: _metrics(sk.evaluate(model, sae, corpus, **cut))
    yield "evaluate two", lambda: [_metrics(e) for e in sk.evaluate(model, [sae, other], corpus, **cut)]
    yield "compare", lambda: len(sk.compare([sae, other]).frame)
    yield "fit_token_filter", lambda: sk.fit_token_filter(model, sk.tokenize(corpus, model, **cut), HOOK).max_norm
    yield "activation_batches", lambda: next(iter(sk.activation_batches(model, corpus, HOOK, batch_size=64, length=32)))
    yield "cache_activations", lambda: cache().x(slice(0, 4))
    for activation in sk.sae.ARCHITECTURES:
        yield f"train {activation}", lambda a=activation: trained(a)
    yield "train on a cache", lambda: trained("topk", cache())
    yield "build_index", lambda: index().features[["max", "density"]].to_numpy()
    yield "index, promoted", lambda: index().feature(3).promoted and None
    yield "search prompt", lambda: firings(prompt=TEXT) is None
    yield "search contrast", lambda: firings(contrast=(["the golden gate"], ["a cat sat"])) is None
    yield "search text", lambda: firings(text="golden gate") is None
    yield "search token", lambda: firings(token="g") is None
    yield "rank_features", lambda: sk.rank_features(index(), concept)["average_precision"].to_numpy()[:3]
    yield "specificity", lambda: sk.specificity(index(), 3, concept, n_permutations=10, n_controls=2) and None
    yield "highlight", lambda: sk.highlight(model, sae, TEXT, index=index()).values(3)
    yield "explore", lambda: sk.explore(index(), model, sae).text() and None
    yield "card", lambda: sk.card(index(), 3).text() and None
    yield "attention_patterns", lambda: np.array(sk.widgets.attention_patterns(model, TEXT, layer=1).props["attention"])
    yield "steer panel", panel
    yield "generate", lambda: sk.generate(model, PROMPTS, max_new_tokens=4, temperature=0.7) and None
    yield "stream", lambda: list(sk.stream(model, "the cat", max_new_tokens=4)) and None
    for name in ("clamp", "add", "cap"):
        yield name, lambda n=name: written([getattr(sk, n)(sae, {3: 0.5}, unit="norm")])
    yield "clamp, unit max", lambda: written([sk.clamp(sae, {3: 2.0}, unit="max", index=index())])
    yield "scale", lambda: written([sk.scale(sae, {3: 4.0})])
    yield "ablate", lambda: written([sk.ablate(sae, range(8))])
    yield "edit where", lambda: written([sk.add(sae, {3: 2.0}, where=~sk.Where.fires(sae, 7, above=1e6))])
    yield (
        "edit by schedule",
        lambda: written([sk.add(sae, {3: 2.0}, schedule=sk.Schedule.linear({0: 1, 3: 0}))], temperature=0.5),
    )
    yield "mean_difference", lambda: direction().vectors
    yield "add_direction", lambda: written([sk.add_direction(direction(), 0.4)])
    yield "project_out", lambda: written([sk.project_out(direction())])
    yield (
        "word_effects",
        lambda: (
            sk.word_effects(model, sae, [3, 7], [" gate"], starts=[("Who?", "I")], **quiet)
            .loc[[3, 7], "effect"]
            .to_numpy()
        ),
    )
    yield "output_scores", lambda: sk.output_scores(model, sae, [3, 7]).loc[[3, 7], "score"].to_numpy()
    yield "steering_features", lambda: len(sk.steering_features(model, sae, index(), concept, ["g"], **quiet)) and None
    yield (
        "dose_response",
        lambda: len(
            sk.dose_response(
                model, sae, 3, PROMPTS, concept, [0.5], controls=1, max_new_tokens=3, costs=True, chat=False, **quiet
            ).generations
        ),
    )
    yield "likelihood", lambda: negative_log_likelihood(model, [([0, 5], [6, 7]), ([0, 9], [7, 8, 9])])
    sample = TextSample((0, 5, 6), (0, 5, 6), (7, 8, 9), (sk.clamp(sae, {3: 0.5}, unit="norm"),))
    yield "readout", lambda: next(iter(read(model, sae, [sample]))).after
    yield "cost", lambda: [cost(model, sae, [sample])[0].nll, cost(model, sae, [sample])[0].kl]
    yield "sparse_probing", lambda: sk.sparse_probing(model, sae, corpus, label="topic", ks=(1,), **few) and None
    yield (
        "probe perturbation",
        lambda: sk.targeted_probe_perturbation(model, sae, corpus, label="topic", ns=(2,), **few) and None,
    )
    yield (
        "spurious correlation",
        lambda: (
            sk.spurious_correlation_removal(
                model, sae, corpus, wanted="topic", spurious="style", ns=(2,), n_each=8, **few
            )
            and None
        ),
    )
    yield (
        "absorption",
        lambda: (
            sk.feature_absorption(
                model, sae, words=[a + b + c for a in "cdm" for b in "abcde" for c in "uvwxy"], **quiet
            )
            and None
        ),
    )
    yield (
        "ablation_sparsity",
        lambda: sk.ablation_sparsity(model, sae, corpus, n_tokens=2, n_features=2, n_following=4, **few) and None,
    )
    yield "save and load", lambda: sk.load_sae(sae.save(folder / "sae")).encode(torch.ones(3, 32))


def _metrics(evaluation: sk.Evaluation) -> list[float]:
    e = evaluation
    return [e.explained_variance, e.l0, e.ce, e.ce_spliced, e.kl] if hasattr(e, "ce") else [e.explained_variance, e.l0]


def numbers(found: Any) -> np.ndarray | None:
    """What is compared, as one row of float64."""
    if found is None or isinstance(found, bool):
        return None
    if isinstance(found, torch.Tensor):
        found = found.detach().double().cpu().numpy() if found.device.type != "mps" else found.detach().cpu().numpy()
    return np.asarray(found, dtype=np.float64).ravel()


def difference(found: np.ndarray | None, expected: np.ndarray | None) -> float:
    """Length of the difference over the length of what was expected."""
    if found is None or expected is None:
        return 0.0
    if found.shape != expected.shape:
        return float("inf")
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-9))
