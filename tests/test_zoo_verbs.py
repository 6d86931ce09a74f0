"""Every function that runs a model, on every model of the zoo, against plain transformers with forward hooks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import saekit as sk
from saekit.errors import DataError, UnknownNameError
from saekit.steering.output_scores import lens_tokens

from . import zoo
from .zoo_tokenizers import MIXED, training_text

pytestmark = pytest.mark.slow

HOOK = "blocks.0.hook_resid_post"
FEATURE = 3


@pytest.fixture(params=zoo.PARAMS, scope="module")
def zoo_model(request):
    return zoo.load(request.param)


@pytest.fixture(scope="module")
def corpus():
    texts = [{"text": text[:200], "topic": "mixed"} for text in MIXED]
    texts += [{"text": text[:150], "topic": "demo"} for text in training_text()[:10]]
    return sk.load_corpus(texts, name="zoo")


@pytest.fixture(scope="module")
def sae(zoo_model) -> sk.SAE:
    """A random SAE at HOOK which leaves special tokens alone, and no others."""
    model = zoo_model.model
    config = sk.SAEConfig(
        d_in=model.d_model,
        d_sae=64,
        activation="topk",
        k=4,
        hook_name=HOOK,
        model_name=model.name,
        weight_processing=model.weight_processing,
        token_filter=sk.TokenFilter(special_ids=tuple(sorted(model.special_ids))),
    )
    return sk.SAE(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def index(zoo_model, sae, corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("zoo") / "index"
    return sk.build_index(zoo_model.model, sae, corpus, out=out, length=64, progress=False)


# ---- the plain model, read and edited by a forward hook --------------------------------------------------------------


@contextlib.contextmanager
def hooked(zoo_model: zoo.ZooModel, edit: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """`edit` is given what layer 0 of the plain model writes, and returns what is to stand in its place."""

    def hook(module: Any, args: Any, out: Any) -> Any:
        x = out[0] if isinstance(out, tuple) else out
        new = edit(x)
        if new is None:
            return None
        return (new, *out[1:]) if isinstance(out, tuple) else new

    handle = zoo_model.layers[0].register_forward_hook(hook)
    try:
        with torch.no_grad():
            yield
    finally:
        handle.remove()


def residual(zoo_model: zoo.ZooModel, ids: list[int]) -> Tensor:
    """What layer 0 of the plain model writes for `ids`."""
    got = []
    with hooked(zoo_model, lambda x: got.append(x[0].clone())):
        zoo_model.hf(torch.tensor([ids]))
    return got[0]


def ordinary(zoo_model: zoo.ZooModel, ids: list[int]) -> Tensor:
    return torch.tensor([i not in zoo_model.model.special_ids for i in ids])


def rows(windows: sk.Windows) -> list[list[int]]:
    return [row[:n].tolist() for row, n in zip(windows.tokens, windows.lengths.tolist(), strict=True)]


# ---- fidelity, training, index ---------------------------------------------------------------------------------------


def test_fidelity_equals_one_window_at_a_time_through_the_plain_model(zoo_model, sae, corpus):
    windows = sk.tokenize(corpus.take(6), zoo_model.model, length=32)
    found = sk.evaluate(zoo_model.model, sae, windows, n_tokens=None, progress=False)
    losses: dict[str, list[Tensor]] = {"clean": [], "sae": [], "everywhere": [], "zero": []}
    xs, x_hats, n_active = [], [], []
    for ids in rows(windows):
        x, keep = residual(zoo_model, ids), ordinary(zoo_model, ids)[:, None]
        out = sae(x)
        of_sae, zeros = torch.where(keep, out.x_hat, x), torch.zeros_like(x)
        for name, new in (("clean", x), ("sae", of_sae), ("everywhere", out.x_hat), ("zero", zeros)):
            with hooked(zoo_model, lambda _, new=new: new[None]):
                log_p = zoo_model.hf(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1)
            losses[name].append(-log_p.gather(1, torch.tensor(ids[1:])[:, None])[:, 0])
        xs.append(x[keep[:, 0]])
        x_hats.append(out.x_hat[keep[:, 0]])
        n_active.append((out.feature_acts != 0).sum(1)[keep[:, 0]])
    x, x_hat = torch.cat(xs).double(), torch.cat(x_hats).double()
    assert found.n_tokens == len(x) and found.l0 == pytest.approx(float(torch.cat(n_active).float().mean()))
    unexplained = (x - x_hat).pow(2).sum() / (x - x.mean(0)).pow(2).sum()
    assert found.explained_variance == pytest.approx(float(1 - unexplained), abs=1e-4)
    fields = {"clean": "ce_clean", "sae": "ce_sae", "everywhere": "ce_sae_everywhere", "zero": "ce_zero"}
    ce = {name: float(torch.cat(values).mean()) for name, values in losses.items()}
    for name, field in fields.items():
        assert getattr(found, field) == pytest.approx(ce[name], abs=1e-3), name
    if abs(ce["zero"] - ce["clean"]) > 0.1:
        recovered = (ce["zero"] - ce["sae"]) / (ce["zero"] - ce["clean"])
        assert found.ce_loss_recovered == pytest.approx(recovered, abs=0.02)


def test_a_few_steps_of_training_and_what_was_trained_loads_again(zoo_model, corpus, tmp_path):
    model = zoo_model.model
    config = sk.TrainConfig(n_tokens=1024, batch_size=128, context_size=32, buffer_tokens=256, device="cpu")
    wanted = sk.SAEConfig(d_in=model.d_model, d_sae=64, activation="batchtopk", k=8)
    trained = sk.train(model, corpus, hook_name=HOOK, sae=wanted, config=config, progress=False)
    assert trained.config.prepend_bos == model.facts.prepend_bos
    assert set(trained.config.token_filter.special_ids) == set(model.special_ids)
    again = sk.load_sae(trained.save(tmp_path / "sae"))
    x = residual(zoo_model, model.tokenize(zoo.PROMPT))
    torch.testing.assert_close(again.encode(x), trained.encode(x).detach())
    losses = [
        float((m(x).x_hat.detach() - x).pow(2).mean()) for m in (sk.SAE(wanted.replace(hook_name=HOOK)).eval(), again)
    ]
    assert losses[1] < losses[0]


def test_an_index_holds_what_the_sae_finds_in_the_plain_model(zoo_model, sae, index):
    dense = np.zeros((index.windows.tokens.numel(), sae.config.d_sae), np.float32)
    for n, ids in enumerate(rows(index.windows)):
        acts = sae.encode(residual(zoo_model, ids)) * ordinary(zoo_model, ids)[:, None]
        dense[n * index.length : n * index.length + len(ids)] = acts
    kept = np.isin(np.arange(len(dense)), index.kept)
    assert set(np.flatnonzero(dense.any(1))) <= set(np.flatnonzero(kept))
    np.testing.assert_allclose(index.matrix.toarray(), dense[kept], atol=2e-3 * max(1.0, dense.max()))
    special = np.isin(index.windows.tokens.reshape(-1), list(zoo_model.model.special_ids))
    assert not (special & kept).any()


def test_promoted_tokens_are_those_of_the_real_norm_and_head(zoo_model, sae, index):
    from .test_zoo_models import logit_effects

    effects = logit_effects(zoo_model, sae.W_dec)
    shown = zoo_model.model.vocabulary.shown
    for feature in range(0, sae.config.d_sae, 8):
        promoted = index.features["promoted"][feature]
        want = effects[feature].topk(len(promoted)).indices.tolist()
        assert list(promoted) == [shown[i] for i in want]


def test_scores_of_concepts_and_searches_run(zoo_model, sae, index):
    concept = sk.Concept.regex("e")
    ranked = sk.rank_features(index, concept, n=5)
    result = sk.specificity(index, int(ranked.index[0]), concept, n_permutations=19, n_controls=2)
    assert 0 <= result.average_precision.value <= 1 and len(ranked) == 5
    ids = zoo_model.model.tokenize(zoo.PROMPT)
    acts = sae.encode(residual(zoo_model, ids)) * ordinary(zoo_model, ids)[:, None]
    found = index.search(prompt=zoo.PROMPT, n=64).set_index("feature")
    assert set(found.index) == set(acts.any(0).nonzero().flatten().tolist())
    for feature in found.index:
        assert found["max"][feature] == pytest.approx(float(acts[:, feature].max()), rel=1e-3)
    assert len(index.search(contrast=([zoo.PROMPT], ["def f"]), n=4)) == 4
    direction = sk.mean_difference(zoo_model.model, sae, index, concept, progress=False)
    assert direction.vectors.isfinite().all()
    assert "feature" in str(sk.card(index, FEATURE)).lower() and len(sk.explore(index).rows)


# ---- steering --------------------------------------------------------------------------------------------------------


def clamped(zoo_model: zoo.ZooModel, sae: sk.SAE, prompt: list[int], value: float, n_new: int) -> list[int]:
    """Greedy tokens of the plain model, run whole for each, with one feature clamped at every ordinary token."""
    ids = list(prompt)
    config = zoo_model.hf.generation_config.eos_token_id
    ends = config if isinstance(config, list) else [config]
    for _ in range(n_new):

        def edit(x: Tensor) -> Tensor:
            change = (value - sae.encode(x[0])[:, FEATURE]) * ordinary(zoo_model, ids)
            return x + change[None, :, None] * sae.W_dec[FEATURE]

        with hooked(zoo_model, edit):
            new = int(zoo_model.hf(torch.tensor([ids])).logits[0, -1].argmax())
        if new in ends:
            break
        ids.append(new)
    return ids[len(prompt) :]


@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no cache"])
def test_clamped_text_equals_the_plain_model_under_a_hook(zoo_model, sae, use_cache):
    model = zoo_model.model
    ids = model.tokenize(zoo.PROMPT)
    value = 2 * float(residual(zoo_model, ids).norm(dim=1).median())
    prompts = [zoo.PROMPT, "def f(x: int) -> str:"]
    outs = sk.generate(model, prompts, edits=sk.clamp(sae, {FEATURE: value}), max_new_tokens=12, use_cache=use_cache)
    for prompt, out in zip(prompts, outs, strict=True):
        assert list(out.tokens) == clamped(zoo_model, sae, model.tokenize(prompt), value, 12)
    with_hooks = sk.steered(model, sk.clamp(sae, {FEATURE: value}))
    assert sk.generate(with_hooks, zoo.PROMPT, max_new_tokens=12).tokens == outs[0].tokens


def test_studies_of_steering_run(zoo_model, sae, index):
    model = zoo_model.model
    chat = zoo_model.tokenizer.chat_template is not None and zoo_model.name != "llama_surplus"
    concept = sk.Concept.regex("e")
    texts = {"max_new_tokens": 4, "chat": chat}
    study = sk.dose_response(
        model, sae, FEATURE, ["the gate", "fog"], concept, [0.5], controls=1, costs=True, progress=False, **texts
    )
    frame = study.to_frame()
    assert sorted(set(frame["condition"])) == ["control", "feature", "none"] and len(frame) == 5
    for row in frame[frame["condition"] == "none"].itertuples():
        assert row.text == sk.generate(model, row.prompt, **texts).text


def test_word_effects_equal_the_plain_model_under_a_hook(zoo_model, sae):
    """The change of a word's log-probability after a question and the beginning of an answer, as in a conversation."""
    model, (question, answer) = zoo_model.model, ("Who?", "I am the")
    if zoo_model.name == "llama_surplus":
        with pytest.raises(DataError, match="has no such token"):
            sk.word_effects(model, sae, [FEATURE], [" gate"], starts=[(question, answer)], progress=False)
        return
    words = [" gate", " the" if zoo_model.name == "gpt2_wordpiece" else "\n"]  # BERT's tokenizer knows no lines
    scores = sk.word_effects(model, sae, [FEATURE, 5], words, starts=[(question, answer)], progress=False)
    chat = zoo_model.tokenizer.chat_template is not None
    text = model.chat_prompt(question) + answer if chat else f"{question} {answer}"
    ids = model.tokenize(text, bos=False if chat else None)
    log_p = []
    for feature in (None, FEATURE, 5):

        def edit(x: Tensor, feature: int | None = feature) -> Tensor | None:
            if feature is None:
                return None
            change = (0.5 * x[0].norm(dim=1) - sae.encode(x[0])[:, feature]) * ordinary(zoo_model, ids)
            return x + change[None, :, None] * sae.W_dec[feature]

        with hooked(zoo_model, edit):
            log_p.append(zoo_model.hf(torch.tensor([ids])).logits[0, -1].log_softmax(-1))
    shown = model.vocabulary.shown
    for word in words:
        first = model.tokenize_next(word)[:1]
        assert word.startswith(shown[first[0]]) and (shown[first[0]].strip() or not word.strip())
        for n, feature in enumerate((FEATURE, 5), start=1):
            assert scores[word][feature] == pytest.approx(float(log_p[n][first] - log_p[0][first]), abs=1e-3)


def test_output_scores_equal_the_plain_model_with_its_last_token_raised(zoo_model, sae):
    """The score of Arad et al. 2025 from the logits of transformers; own tokens are compared elsewhere."""
    model = zoo_model.model
    ids = model.tokenize(zoo.PROMPT, bos=sae.config.prepend_bos)
    found = sk.output_scores(model, sae, [FEATURE, 5], prompt=zoo.PROMPT)
    for feature, own in zip([FEATURE, 5], lens_tokens(model, sae, [FEATURE, 5], 20), strict=True):

        def edit(x: Tensor, feature: int = feature) -> Tensor:
            raised = x.clone()
            raised[0, -1] += 10 * sae.encode(x[0, -1:]).max() * sae.W_dec[feature]
            return raised

        with hooked(zoo_model, edit):
            p = zoo_model.hf(torch.tensor([ids])).logits[0, -1].float().softmax(-1)
        rank = int((p > p[own].max()).sum())
        assert found.loc[feature, "score"] == pytest.approx(float((1 - rank / len(p)) * p[own].max()), abs=1e-4)


# ---- attention -------------------------------------------------------------------------------------------------------


def test_attention_is_that_of_the_plain_model_or_the_error_says_there_is_none(zoo_model):
    ids = torch.tensor([zoo_model.model.tokenize(zoo.PROMPT)])
    for layer in range(2):
        if f"blocks.{layer}.attn.hook_pattern" not in zoo_model.model.hook_names():
            with pytest.raises(UnknownNameError, match="has no attention pattern"):
                sk.widgets.attention_patterns(zoo_model.model, zoo.PROMPT, layer)
            continue
        shown = np.array(sk.widgets.attention_patterns(zoo_model.model, zoo.PROMPT, layer).props["attention"])
        with torch.no_grad():
            want = [a for a in zoo_model.hf(ids, output_attentions=True).attentions if a is not None]
        want = want[layer] if len(want) == 2 else want[-1]
        np.testing.assert_allclose(shown, want[0].numpy(), atol=1e-3)
