"""The exclusion token filter and shuffled batches; the hook is the token embedding where a token must be known by its
x."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pandas as pd
import pytest
import torch
from torch import Tensor

import saekit as sk
from conftest import HOOK, tiny_model
from saekit.activations import kept_activations
from saekit.activations.forward import WINDOWS_PER_RUN
from saekit.errors import ConfigError, DataError, MismatchError, UnknownNameError
from saekit.models import LanguageModel

EMBEDDING = "embed.hook_out"
NO_FILTER = sk.TokenFilter()


def windows_by_document(n_documents: int = 100, n_windows: int = 4, length: int = 32) -> sk.Windows:
    """Windows whose every token is its document's number plus 10, so that an embedding gives the document."""
    documents = torch.arange(n_documents, dtype=torch.int32).repeat_interleave(n_windows)[:, None].repeat(1, length)
    tokens = documents + 10
    tokens[:, 0], documents[:, 0] = 0, -1
    lengths = torch.full((len(tokens),), length, dtype=torch.int32)
    return sk.Windows(tokens, documents, lengths, pd.DataFrame(index=pd.RangeIndex(n_documents, name="document")))


def documents_of(model: LanguageModel, x: Tensor) -> Tensor:
    table = model.activations([list(range(128))[:64], list(range(64, 128))], EMBEDDING).flatten(0, 1)
    return torch.cdist(x, table).argmin(1) - 10


def same_document_rate(model: LanguageModel, batches: Iterable[Tensor]) -> float:
    """Fraction of the pairs within a batch that come from one document, mean over batches."""
    rates = []
    for x in batches:
        counts = documents_of(model, x).bincount().double()
        rates.append(float((counts * (counts - 1)).sum() / (len(x) * (len(x) - 1))))
    return sum(rates) / len(rates)


def rows_sorted(x: Tensor) -> Tensor:
    return x[x.double().mul(torch.linspace(1, 2, x.shape[1], dtype=torch.double)).sum(1).argsort()]


def every_kept_token(model: LanguageModel, windows: sk.Windows, hook_name: str, token_filter: sk.TokenFilter) -> Tensor:
    """The slow reference: one window at a time, without padding or a mask."""
    out = []
    for tokens, n in zip(windows.tokens, windows.lengths.tolist(), strict=True):
        x = model.activations(tokens[None, :n].long(), hook_name)[0]
        out.append(x[token_filter.keep(tokens[:n], x)])
    return torch.cat(out)


# ---- the token filter
# -----------------------------------------------------------------------------------------------------


def test_token_filter_is_four_medians_of_tokens_that_are_not_special(model: LanguageModel, corpus: sk.Corpus) -> None:
    windows = sk.tokenize(corpus, model, length=16)
    special = sk.TokenFilter(special_ids=tuple(model.special_ids))
    norms = every_kept_token(model, windows, HOOK, special).norm(dim=-1)
    token_filter = sk.fit_token_filter(model, windows, HOOK, n_windows=10_000)
    assert token_filter.special_ids == tuple(sorted(model.special_ids))
    assert token_filter.max_norm == pytest.approx(4 * float(norms.median()), rel=1e-5)
    assert sk.fit_token_filter(model, windows, HOOK) == sk.fit_token_filter(model, windows, HOOK)
    half = sk.fit_token_filter(model, windows, HOOK, multiple=2.0).max_norm
    assert sk.fit_token_filter(model, windows, HOOK).max_norm == pytest.approx(2 * half)
    with pytest.raises(ConfigError, match="no token filter can be found"):
        sk.fit_token_filter(model, windows, HOOK, multiple=0.5)


def test_kept_activations_are_those_of_each_window_alone(model: LanguageModel, corpus: sk.Corpus) -> None:
    windows = sk.tokenize(corpus, model, length=16)
    token_filter = sk.TokenFilter(special_ids=(model.bos_id,), max_norm=2.2)
    position, x = kept_activations(model, windows, torch.arange(len(windows)), HOOK, token_filter)
    expected = every_kept_token(model, windows, HOOK, token_filter)
    assert 0.1 < len(x) / windows.n_tokens < 0.9  # the token filter does leave some out
    torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-5)
    row, place = position // windows.length, position % windows.length
    assert (windows.documents[row, place] >= 0).all() and (x.norm(dim=-1) <= 2.2).all()


@pytest.mark.real
def test_the_default_models_sinks_are_left_out(default_model: LanguageModel) -> None:
    windows = sk.tokenize(sk.load_corpus("demo").shuffle(0), default_model, length=64, max_tokens=1500)
    hook = "blocks.15.hook_resid_post"
    token_filter = sk.fit_token_filter(default_model, windows, hook)
    x = default_model.activations(windows.tokens[:4].long(), hook)
    norms = x.norm(dim=-1)
    assert (norms[:, 0] > 10 * token_filter.max_norm).all()
    kept = token_filter.keep(windows.tokens[:4], x)
    text = windows.documents[:4] >= 0
    assert not kept[:, 0].any() and norms[kept].max() < token_filter.max_norm < norms[:, 0].min()
    assert kept[text].float().mean() > 0.9


# ---- batches ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_every_kept_token_once_an_epoch(model: LanguageModel, corpus: sk.Corpus, stream: bool) -> None:
    windows = sk.tokenize(corpus, model, length=16)
    token_filter = sk.fit_token_filter(model, windows, HOOK)
    source = sk.load_corpus(lambda: iter(corpus)) if stream else windows
    batches = sk.activation_batches(
        model, source, HOOK, batch_size=64, token_filter=token_filter, buffer_tokens=256, n_epochs=2, length=16
    )
    assert batches.token_filter == token_filter and batches.d_in == 32 and batches.n_tokens_per_epoch is None
    got = list(batches)
    expected = rows_sorted(every_kept_token(model, windows, HOOK, token_filter).repeat(2, 1))
    assert {len(x) for x in got} == {64}
    assert len(expected) - 64 < 64 * len(got) <= len(expected)
    assert batches.n_tokens_per_epoch == len(expected) // 2
    # all but the tokens that did not fill a last batch are there, none of them twice an epoch
    near = torch.cdist(torch.cat(got).double(), expected.double())
    assert near.min(1).values.max() < 1e-4
    used = near.argmin(1).bincount(minlength=len(expected))
    assert int(used.sum()) == 64 * len(got)
    distance = torch.cdist(expected.double(), torch.cat(got).double()).min(1).values
    assert int((distance > 1e-4).sum()) < 64


def test_no_token_is_dropped_when_batches_fit(model: LanguageModel) -> None:
    windows = windows_by_document(64, 2, 17)  # 64 * 2 * 16 tokens
    batches = sk.activation_batches(model, windows, EMBEDDING, batch_size=128, buffer_tokens=512, n_epochs=3)
    counts = torch.cat([documents_of(model, x) for x in batches]).bincount()
    assert counts.tolist() == [2 * 16 * 3] * 64


def test_batches_mix_documents_like_a_full_shuffle(model: LanguageModel) -> None:
    windows = windows_by_document()  # 100 documents of 124 tokens
    full = 1 / 100

    def rate(buffer_tokens: int) -> float:
        batches = sk.activation_batches(
            model, windows, EMBEDDING, batch_size=64, token_filter=NO_BOS, buffer_tokens=buffer_tokens, n_epochs=1
        )
        return same_document_rate(model, batches)

    pooled, poor = rate(windows.n_tokens // 2), rate(64)
    shuffled = torch.arange(100).repeat_interleave(124)[torch.randperm(12_400, generator=torch.Generator())]
    counts = [b.bincount().double() for b in shuffled.split(64)[:-1]]
    reference = float(torch.stack([(c * (c - 1)).sum() / (64 * 63) for c in counts]).mean())
    assert reference == pytest.approx(full, rel=0.15)
    assert pooled < 1.35 * reference
    assert poor > 2 * reference  # and the measure does see bad mixing


NO_BOS = sk.TokenFilter(special_ids=(0,))


def test_each_epoch_has_a_new_order_and_each_seed_its_own(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = windows_by_document(64, 2, 17)
    read: list[int] = []
    real = LanguageModel.activations

    def seen(self: LanguageModel, tokens: Tensor, *args: object, **kwargs: object) -> Tensor:
        read.extend(tokens[:, 1].tolist())
        return real(self, tokens, *args, **kwargs)

    def run(seed: int) -> Tensor:
        batches = sk.activation_batches(
            model, windows, EMBEDDING, batch_size=128, token_filter=NO_BOS, buffer_tokens=512, seed=seed, n_epochs=2
        )
        with monkeypatch.context() as m:
            m.setattr(LanguageModel, "activations", seen)
            got = list(batches)
        return torch.stack([documents_of(model, x) for x in got])

    first = run(0)
    assert read[:128] != read[128:] and sorted(read[:128]) == sorted(read[128:])  # the windows' order is new too
    assert torch.equal(first, run(0)) and not torch.equal(first, run(1))
    assert not torch.equal(first[:16], first[16:])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stop", [0, 1, 7, 15, 21])
def test_resume_is_bit_exact(model: LanguageModel, corpus: sk.Corpus, stop: int, stream: bool) -> None:
    source = sk.load_corpus(lambda: iter(corpus)) if stream else corpus

    def fresh() -> sk.ActivationBatches:
        return sk.activation_batches(model, source, HOOK, batch_size=200, buffer_tokens=400, length=16, n_epochs=2)

    whole = list(fresh())
    assert len(whole) > 21
    before = fresh()
    for x in whole[:stop]:
        assert torch.equal(next(before), x)
    state = before.state_dict()
    next(before)  # the state is not touched by going on
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    after = fresh()
    after.load_state_dict(torch.load(file))
    rest = list(after)
    assert len(rest) == len(whole) - stop and all(map(torch.equal, rest, whole[stop:]))


def test_a_finished_run_stays_finished_after_resume(model: LanguageModel, corpus: sk.Corpus) -> None:
    one = sk.activation_batches(model, corpus, HOOK, batch_size=200, length=16, n_epochs=1)
    n = len(list(one))
    assert n and list(one) == []
    again = sk.activation_batches(model, corpus, HOOK, batch_size=200, length=16, n_epochs=1)
    again.load_state_dict(one.state_dict())
    assert list(again) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [({"seed": 1}, "seed"), ({"batch_size": 100}, "batch_size"), ({"hook_name": EMBEDDING}, "hook_name")],
)
def test_a_state_of_other_batches_is_refused(
    model: LanguageModel, corpus: sk.Corpus, change: dict[str, object], named: str
) -> None:
    windows = sk.tokenize(corpus, model, length=16)
    arguments = {"hook_name": HOOK, "batch_size": 64, "seed": 0, "token_filter": NO_FILTER}
    state = sk.activation_batches(model, windows, **arguments).state_dict()
    with pytest.raises(MismatchError, match=f"state is of other batches: {named} differs"):
        sk.activation_batches(model, windows, **{**arguments, **change}).load_state_dict(state)
    other = sk.activation_batches(model, windows.select(slice(9, None)), **arguments)
    with pytest.raises(MismatchError, match="text differs"):
        other.load_state_dict(state)


def test_a_generator_feeds_one_epoch_and_then_says_why_it_stops(model: LanguageModel, corpus: sk.Corpus) -> None:
    texts = [d.text for d in corpus]
    arguments = {"batch_size": 100, "buffer_tokens": 200, "length": 16}
    one = sk.activation_batches(model, sk.load_corpus(t for t in texts), HOOK, n_epochs=1, **arguments)
    kept = sk.activation_batches(model, sk.load_corpus(lambda: iter(texts)), HOOK, n_epochs=1, **arguments)
    assert all(map(torch.equal, one, kept))
    two = sk.activation_batches(model, sk.load_corpus(t for t in texts), HOOK, n_epochs=2, **arguments)
    with pytest.raises(DataError, match="generator, which can be read once"):
        list(two)


def test_activations_that_are_not_finite_are_located(corpus: sk.Corpus) -> None:
    model = tiny_model()
    letter = model.tokenize("b", bos=False)[0]
    with torch.no_grad():
        next(p for n, p in model.bridge.named_parameters() if n.startswith("tok_embed"))[letter, 3] = torch.nan
    windows = sk.tokenize(sk.load_corpus(["a cat sat", "on", "a cab"]), model, length=8)
    row, place = (windows.tokens == letter).nonzero()[0].tolist()
    message = rf"at {EMBEDDING} are not finite in window {row}, document 2, position {place}[\s\S]*nan"
    with pytest.raises(DataError, match=message):
        next(sk.activation_batches(model, windows, EMBEDDING, batch_size=2, token_filter=NO_FILTER))
    with pytest.raises(DataError, match=message):
        sk.fit_token_filter(model, windows, EMBEDDING)
    with pytest.raises(DataError, match=rf"window {row}, document 2, position 0"):  # attention spreads it to BOS
        sk.fit_token_filter(model, windows, HOOK)


def test_padding_need_not_be_finite(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    windows = sk.tokenize(sk.load_corpus(["a cat sat on the mat", "fog"]), model, length=32)
    plain = kept_activations(model, windows, torch.arange(2), HOOK, NO_FILTER)
    real = LanguageModel.activations

    def nan_beside_the_text(*args: object, attention_mask: Tensor) -> Tensor:
        return real(*args, attention_mask=attention_mask).masked_fill(attention_mask[..., None] == 0, torch.nan)

    monkeypatch.setattr(LanguageModel, "activations", nan_beside_the_text)
    assert all(map(torch.equal, kept_activations(model, windows, torch.arange(2), HOOK, NO_FILTER), plain))


def test_bad_arguments(model: LanguageModel, corpus: sk.Corpus) -> None:
    windows = sk.tokenize(corpus, model, length=16)
    with pytest.raises(UnknownNameError, match="did you mean"):
        sk.activation_batches(model, windows, "blocks.0.hook_resid_pots", batch_size=8)
    with pytest.raises(ConfigError, match="batch_size is not positive"):
        sk.activation_batches(model, windows, HOOK, batch_size=0)
    with pytest.raises(ConfigError, match="n_epochs is not positive"):
        sk.activation_batches(model, windows, HOOK, batch_size=8, n_epochs=0)
    with pytest.raises(ConfigError, match="buffer_tokens does not hold one batch"):
        sk.activation_batches(model, windows, HOOK, batch_size=64, buffer_tokens=32)
    with pytest.raises(DataError, match=r"fewer tokens than one batch[\s\S]*pass batch_size=\d+ or less"):
        next(sk.activation_batches(model, windows, HOOK, batch_size=50_000))
    with pytest.raises(DataError, match=r"every one is excluded"):
        next(sk.activation_batches(model, windows, HOOK, batch_size=8, token_filter=sk.TokenFilter(max_norm=1e-9)))


def test_windows_of_like_length_run_together(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a" * n for n in range(1, 61)] * 12
    windows = sk.tokenize(sk.load_corpus(texts), model, length=64)
    run: list[int] = []
    real = LanguageModel.activations

    def counted(self: LanguageModel, tokens: Tensor, *args: object, **kwargs: object) -> Tensor:
        run.append(tokens.numel())
        assert len(tokens) <= WINDOWS_PER_RUN
        return real(self, tokens, *args, **kwargs)

    monkeypatch.setattr(LanguageModel, "activations", counted)
    list(sk.activation_batches(model, windows, HOOK, batch_size=64, token_filter=NO_FILTER, n_epochs=1))
    assert sum(run) < 1.15 * windows.n_tokens < 0.75 * windows.tokens.numel()
