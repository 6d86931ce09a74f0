"""Windows: every token once, in order, with its document and label; checked against one document at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import saekit as sk
from saekit.corpus import Windows, iter_windows
from saekit.errors import ConfigError, ContextLengthError, DataError, FileError
from saekit.models import LanguageModel

documents = st.lists(
    st.text(alphabet="ab ", max_size=40).flatmap(
        lambda text: st.sampled_from([text, "<bos>" + text, "<bos>" + text + "<eos><bos>" + text + "<bos>"])
    ),
    min_size=1,
    max_size=12,
).filter(lambda texts: any(texts))
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def by_document(windows: Windows, number: int) -> list[int]:
    return windows.tokens[windows.documents == number].tolist()


def check_windows(windows: Windows, texts: list[str], model: LanguageModel, length: int) -> None:
    """What holds for every table of windows, packed or not."""
    for number, text in enumerate(texts):
        assert by_document(windows, number) == model.tokenize(text, bos=False)
        assert [*windows.labels.loc[[number]].n] == [number] if text else number not in windows.labels.index
    assert windows.length == length and windows.tokens.dtype == windows.documents.dtype == torch.int32
    assert (windows.tokens[:, 0] == model.bos_id).all()
    for row, n in enumerate(windows.lengths.tolist()):
        assert 2 <= n <= length or windows.documents[row, 0] >= 0  # a document may itself be a lone BOS
        assert (windows.tokens[row, n:] == model.pad_id).all() and (windows.documents[row, n:] == -1).all()
    assert windows.n_documents == sum(bool(t) for t in texts)


@pytest.mark.slow
@quick
@given(texts=documents, length=st.integers(2, 12), chunk=st.integers(1, 5))
def test_no_token_is_lost_or_doubled(model: LanguageModel, texts: list[str], length: int, chunk: int) -> None:
    corpus = sk.load_corpus([{"text": t, "n": i} for i, t in enumerate(texts)])
    windows = sk.tokenize(corpus, model, length=length)
    check_windows(windows, texts, model, length)
    for row in windows.documents:
        assert len(set(row.tolist()) - {-1}) == 1  # one document a window
    real = torch.arange(length) < windows.lengths[:, None]
    assert (windows.documents >= 0)[real].sum() + (windows.documents[:, 0] < 0).sum() == windows.n_tokens
    again = Windows.concatenate(list(sk.iter_windows(corpus, model, length=length, chunk_windows=chunk)))
    assert again.digest == windows.digest


@pytest.mark.slow
@quick
@given(texts=documents, length=st.integers(2, 12), chunk=st.integers(1, 5))
def test_packed_windows_are_full_and_separated(model: LanguageModel, texts: list[str], length: int, chunk: int) -> None:
    corpus = sk.load_corpus([{"text": t, "n": i} for i, t in enumerate(texts)])
    windows = sk.tokenize(corpus, model, length=length, pack=True)
    check_windows(windows, texts, model, length)
    assert (windows.lengths[:-1] == length).all()
    # joined without the BOS of each window the stream is the documents with EOS between them
    added = (windows.documents[:, 0] < 0).long()
    stream = [t for row, a, n in zip(windows.tokens, added, windows.lengths, strict=True) for t in row[a:n].tolist()]
    ids = [model.tokenize(t, bos=False) for t in texts if t]
    assert stream == [t for d in ids for t in [*d, model.eos_id]][:-1]
    again = Windows.concatenate(list(sk.iter_windows(corpus, model, length=length, pack=True, chunk_windows=chunk)))
    assert again.digest == windows.digest


def test_bos_is_not_doubled_and_text_decodes_back(model: LanguageModel) -> None:
    chat = model.chat_prompt("is the golden gate red")
    windows = sk.tokenize(sk.load_corpus([chat, "the mat"]), model, length=48)
    assert windows.tokens[0, : windows.lengths[0]].tolist() == model.tokenize(chat)
    assert windows.tokens[1, : windows.lengths[1]].tolist() == model.tokenize("the mat")
    assert model.decode(by_document(windows, 1)) == "the mat"


@quick
@given(texts=documents, length=st.integers(2, 12), max_tokens=st.integers(2, 60))
def test_max_tokens_is_exact(model: LanguageModel, texts: list[str], length: int, max_tokens: int) -> None:
    whole = sk.tokenize(sk.load_corpus(texts), model, length=length)
    cut = sk.tokenize(sk.load_corpus(texts), model, length=length, max_tokens=max_tokens)
    assert min(max_tokens, whole.n_tokens) - 1 <= cut.n_tokens <= max_tokens
    for number in range(len(texts)):
        assert by_document(cut, number) == by_document(whole, number)[: len(by_document(cut, number))]


@quick
@given(texts=documents, length=st.integers(2, 12), batch_size=st.integers(1, 7))
def test_batches_hold_each_window_once(model: LanguageModel, texts: list[str], length: int, batch_size: int) -> None:
    windows = sk.tokenize(sk.load_corpus(texts), model, length=length)
    seen = []
    for tokens, mask, rows in windows.batches(batch_size):
        assert len(rows) <= batch_size and tokens.shape == mask.shape
        assert mask.sum(1).tolist() == windows.lengths[rows].tolist() and tokens.shape[1] == mask.sum(1).max()
        assert (tokens == windows.tokens[rows, : tokens.shape[1]]).all()
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(windows)))


def test_batches_run_little_padding(model: LanguageModel) -> None:
    generator = np.random.default_rng(0)
    texts = ["a" * int(n) for n in generator.integers(1, 100, 400)]
    windows = sk.tokenize(sk.load_corpus(texts), model, length=32)
    run = sum(tokens.numel() for tokens, _, _ in windows.batches(16))
    assert run < 1.05 * windows.n_tokens < 0.85 * windows.tokens.numel()


def test_labels_follow_their_tokens(model: LanguageModel, corpus: sk.Corpus) -> None:
    windows = sk.tokenize(corpus, model, length=16, pack=True)
    texts = [d.text for d in corpus]
    for document, row in windows.labels.iterrows():
        assert (row.topic == "bridge") == ("golden gate bridge" in texts[int(str(document))])


def test_select_keeps_numbers_and_needed_labels(model: LanguageModel, corpus: sk.Corpus) -> None:
    windows = sk.tokenize(corpus, model, length=16)
    part = windows.select([5, 2, 5])
    assert (part.tokens == windows.tokens[[5, 2, 5]]).all() and len(part) == 3
    assert set(part.labels.index) == set(part.documents.unique().tolist()) - {-1}
    pd.testing.assert_frame_equal(part.labels, windows.labels.loc[part.labels.index])
    assert windows.select(windows.lengths == 16).lengths.unique().tolist() == [16]


def test_digest_changes_with_tokens_and_labels(model: LanguageModel) -> None:
    def digest(rows: list[dict[str, object]]) -> str:
        return sk.tokenize(sk.load_corpus(rows), model, length=16).digest

    base = digest([{"text": "abc", "x": 1}, {"text": "de", "x": 2}])
    assert base == digest([{"text": "abc", "x": 1}, {"text": "de", "x": 2}])
    assert base != digest([{"text": "abd", "x": 1}, {"text": "de", "x": 2}])
    assert base != digest([{"text": "abc", "x": 1}, {"text": "de", "x": 3}])


@pytest.mark.parametrize("rows", [["abc", "", "de"], [{"text": "abc", "x": 1.5, "ok": True}, {"text": "de", "y": "ü"}]])
def test_saved_windows_come_back(model: LanguageModel, tmp_path: Path, rows: list[object]) -> None:
    windows = sk.tokenize(sk.load_corpus(rows), model, length=8)
    windows.save(tmp_path)
    again = Windows.load(tmp_path)
    assert again.digest == windows.digest
    pd.testing.assert_frame_equal(again.labels.fillna("-"), windows.labels.fillna("-"))
    (tmp_path / "windows.safetensors").write_bytes(b"short")
    with pytest.raises(FileError, match=r"windows.safetensors does not hold what it should"):
        Windows.load(tmp_path)


MIXED = {
    "text and number": (["1", 2, 3], ["1", "2", "3"]),
    "number and text": ([1.5, "unknown", 3, 2.0], ["1.5", "unknown", "3", "2"]),
    "with gaps": ([1, None, 2, "x"], ["1", None, "2", "x"]),
    "truth and number": ([True, 1, 0.5], ["True", "1", "0.5"]),
    "truth and text": ([True, None, "no"], ["True", None, "no"]),
    "too long": ([2**70, 1, -(2**63)], [str(2**70), "1", str(-(2**63))]),
    "far too long": ([10**400, 1.5], [str(10**400), "1.5"]),
    "numbers": ([1, 2.5, 3], [1, 2.5, 3]),
    "truth": ([True, None, False], [True, None, False]),
}


@pytest.mark.parametrize("kind", MIXED)
def test_labels_of_several_types_become_text_and_are_saved(kind: str, model: LanguageModel, tmp_path: Path) -> None:
    values, expected = MIXED[kind]
    rows = [{"text": "abc", "x": v} if v is not None else {"text": "abc"} for v in values]
    windows = sk.tokenize(sk.load_corpus(rows), model, length=8)
    pieces = [windows.select([i]) for i in range(len(windows))]
    parts = list(iter_windows(sk.load_corpus(rows), model, length=8, chunk_windows=1))
    for made in (windows, Windows.concatenate(parts), Windows.concatenate(pieces)):
        made.save(tmp_path)
        again = Windows.load(tmp_path)
        for labels in (made.labels, again.labels):
            assert [None if v is None or v != v else v for v in labels["x"]] == expected
        assert again.digest == made.digest
    raw = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    replace(windows, labels=raw).save(tmp_path)
    assert Windows.load(tmp_path).labels["x"].dropna().tolist() == [v for v in expected if v is not None]


def test_bad_arguments(model: LanguageModel, corpus: sk.Corpus) -> None:
    with pytest.raises(ContextLengthError, match=r"windows of 65 tokens are longer than the context[\s\S]*length=64"):
        sk.tokenize(corpus, model, length=65)
    with pytest.raises(ConfigError, match="no room for text after BOS"):
        sk.iter_windows(corpus, model, length=1)
    with pytest.raises(ConfigError, match="max_tokens leaves no room"):
        sk.tokenize(corpus, model, length=8, max_tokens=1)
    with pytest.raises(DataError, match="the corpus holds no token"):
        sk.tokenize(sk.load_corpus(["", ""]), model, length=8)
    half = sk.tokenize(sk.load_corpus(["ok", "a\ud800"]), model, length=8)  # half a character is read as its sign
    assert (half.tokens == sk.tokenize(sk.load_corpus(["ok", "a\ufffd"]), model, length=8).tokens).all()
    with pytest.raises(ConfigError, match="batch_size is not positive"):
        next(sk.tokenize(corpus, model, length=8).batches(0))


@pytest.mark.real
def test_the_default_model_tokenises_chat_as_one_document_at_a_time_does(default_model: LanguageModel) -> None:
    corpus = sk.load_corpus("demo").where(style="chat").take(30)
    windows = sk.tokenize(corpus, default_model, length=64)
    for number, document in enumerate(corpus):
        assert by_document(windows, number) == default_model.tokenize(document.text, bos=False)
        row = int((windows.documents == number).any(1).nonzero()[0])
        assert windows.tokens[row, :2].tolist() == default_model.tokenize(document.text)[:2]
