"""Documents: every source gives the same documents, and every mistake in one is named."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pandas as pd
import pytest

import saekit as sk
from saekit.corpus import Document
from saekit.errors import ConfigError, DataError, FileError, LengthUnknownError, UnknownNameError

ROWS = [
    {"text": "the gate", "topic": "bridge", "year": 1937, "known": True},
    {"text": "a song", "topic": "music", "year": 1990, "known": False},
    {"text": "über die Brücke\nund zurück", "topic": "bridge", "year": 2001, "known": True},
]


def as_rows(corpus: sk.Corpus) -> list[dict[str, object]]:
    return [{"text": d.text, **d.labels} for d in corpus]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    pd.DataFrame(ROWS).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(r) for r in ROWS) + "\n\n", "utf8")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name, text in [("b.txt", "second"), ("a.txt", "first"), ("deep/er/c.txt", "third"), ("README.md", "not text")]:
        (tmp_path / name).write_text(text, "utf8")
    return tmp_path


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A dataset as the hub lays one out, with a class label and two splits."""
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "kind": datasets.ClassLabel(names=["bridge", "song"]),
            "ids": datasets.List(datasets.Value("int32")),
        }
    )
    for split, n in [("train", 5), ("test", 2)]:
        rows = [{"text": f"{split} {i}", "kind": i % 2, "ids": [i]} for i in range(n)]
        path = tmp_path / "hub" / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_list(rows, features=features).to_parquet(path)
    return tmp_path / "hub"


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl"])
def test_a_file_gives_one_document_a_row_with_its_labels(files: Path, name: str) -> None:
    corpus = sk.load_corpus(files / name)
    assert as_rows(corpus) == ROWS == as_rows(corpus)
    assert len(corpus) == 3 and set(corpus.label_names) == {"topic", "year", "known"}


def test_a_text_file_is_one_document(files: Path) -> None:
    assert as_rows(sk.load_corpus(files / "a.txt")) == [{"text": "first"}]


def test_a_folder_is_read_through_in_sorted_order(files: Path) -> None:
    (files / ".hidden").mkdir()
    (files / ".hidden" / "x.txt").write_text("no")
    texts = [d.text for d in sk.load_corpus(files)]
    assert texts == ["first", "second", "third", *(r["text"] for r in ROWS), *(r["text"] for r in ROWS)]


@pytest.mark.parametrize(
    ("pattern", "labels"), [("*.txt", ["a.txt", "b.txt"]), ("**/*.txt", ["a.txt", "b.txt", "deep/er/c.txt"])]
)
def test_a_glob_labels_texts_with_their_file(files: Path, pattern: str, labels: list[str]) -> None:
    assert [d.labels["file"] for d in sk.load_corpus(str(files / pattern))] == labels


def test_large_files_are_streamed_and_read_the_same(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saekit.corpus.sources._IN_MEMORY_BYTES", 10)
    stream = sk.load_corpus(files / "rows.jsonl")
    assert as_rows(stream) == ROWS == as_rows(stream)
    assert "stream" in repr(stream) and stream.label_names == ("topic", "year", "known")
    with pytest.raises(LengthUnknownError, match="length of corpus 'rows.jsonl' is not known"):
        len(stream)
    assert len(sk.load_corpus(files / "rows.jsonl", streaming=False)) == 3


@pytest.mark.parametrize("streaming", [True, False])
def test_a_hugging_face_dataset(hub: Path, streaming: bool) -> None:
    corpus = sk.load_corpus(f"hf:{hub}", streaming=streaming)
    kinds = ["bridge", "song", "bridge", "song", "bridge"]
    assert as_rows(corpus) == [{"text": f"train {i}", "kind": k} for i, k in enumerate(kinds)] == as_rows(corpus)
    assert corpus.label_names == ("kind",) and corpus.in_memory is not streaming
    assert [d.text for d in sk.load_corpus(f"hf:{hub}", split="test").where(kind="song")] == ["test 1"]


def test_a_dataset_without_that_split_says_which_there_are(hub: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"cannot read split 'tset'[\s\S]*train"):
        sk.load_corpus(f"hf:{hub}", split="tset")


def test_a_dataset_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*args: object, **kwargs: object) -> None:
        raise datasets.exceptions.DatasetNotFoundError("doesn't exist on the Hub")

    def offline(*args: object, **kwargs: object) -> None:
        raise ConnectionError("Couldn't reach it")

    monkeypatch.setattr(datasets, "load_dataset", nobody)
    with pytest.raises(UnknownNameError, match=r"no dataset 'nobody/nothing'[\s\S]*pass it in a list"):
        sk.load_corpus("nobody/nothing")
    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(FileError, match=r"cannot reach dataset 'nobody/nothing'[\s\S]*network"):
        sk.load_corpus("nobody/nothing")


def test_configuration_is_named_after_a_colon(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def load(path: str, configuration: str, **kwargs: object) -> datasets.IterableDataset:
        seen.extend([path, configuration, kwargs])
        return datasets.Dataset.from_dict({"text": ["a"]}).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert as_rows(sk.load_corpus("Salesforce/wikitext:wikitext-2-v1", split="test")) == [{"text": "a"}]
    assert seen == ["Salesforce/wikitext", "wikitext-2-v1", {"split": "test", "streaming": True}]


def test_iterables() -> None:
    assert as_rows(sk.load_corpus(["a", "b"])) == [{"text": "a"}, {"text": "b"}]
    assert as_rows(sk.load_corpus(ROWS)) == ROWS == as_rows(sk.load_corpus(pd.DataFrame(ROWS)))
    assert as_rows(sk.load_corpus([Document("a", {"x": 1})])) == [{"text": "a", "x": 1}]
    assert as_rows(sk.load_corpus(pd.Series(["a", "b"]))) == [{"text": "a"}, {"text": "b"}]
    again = sk.load_corpus(lambda: (t for t in "ab"))
    assert as_rows(again) == as_rows(again) == [{"text": "a"}, {"text": "b"}]
    assert sk.load_corpus(again) is again


def test_columns_are_chosen() -> None:
    rows = [{"body": "a", "x": 1, "y": None, "z": [1], "w": float("nan"), "v": "v"}]
    assert as_rows(sk.load_corpus(rows, text="body")) == [{"text": "a", "x": 1, "v": "v"}]
    assert as_rows(sk.load_corpus(rows, text="body", labels=["v"])) == [{"text": "a", "v": "v"}]


def test_a_generator_is_read_once() -> None:
    corpus = sk.load_corpus({"text": t, "n": i} for i, t in enumerate("abc"))
    assert corpus.label_names == ("n",)
    assert [d.text for d in corpus] == ["a", "b", "c"]
    with pytest.raises(DataError, match=r"generator, which can be read once[\s\S]*streaming=False"):
        list(corpus)
    kept = sk.load_corpus((t for t in "abc"), streaming=False)
    assert len(kept) == len(list(kept)) == len(list(kept)) == 3


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ([], DataError, "holds no document"),
        ([1], DataError, r"the text of document 0 is not a string[\s\S]*int: 1"),
        (["a", None], DataError, "the text of document 1 is not a string"),
        ([{"txet": "a", "x": 1}], UnknownNameError, r"unknown text column of document 0: 'text'; did you mean 'txet'"),
        ({"text": "a"}, DataError, r"this is not a corpus[\s\S]*in a list"),
        (b"abc", DataError, "this is not a corpus"),
        (7, DataError, "this is not a corpus"),
        ("no such text, but a sentence", FileError, r"no file or folder[\s\S]*pass it in a list"),
        ("missing.jsonl", FileError, "no file or folder 'missing.jsonl'"),
        ("/nowhere/*.txt", FileError, r"no documents in /nowhere/\*.txt"),
    ],
)
def test_bad_sources(source: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sk.load_corpus(source)


def test_an_unknown_label_column() -> None:
    with pytest.raises(UnknownNameError, match=r"label column of document 0: 'topik'; did you mean 'topic'"):
        sk.load_corpus(ROWS, labels=["topik"])


def test_bad_files(tmp_path: Path) -> None:
    def write(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    with pytest.raises(DataError, match=r"bad.jsonl, line 3 is not valid JSON"):
        sk.load_corpus(write("bad.jsonl", b'{"text": "a"}\n\n{"text": "b"\n'))
    with pytest.raises(DataError, match=r"list.jsonl, line 1 is not a JSON object"):
        sk.load_corpus(write("list.jsonl", b'["a"]\n'))
    with pytest.raises(DataError, match=r"number.jsonl, line 1 is not a string"):
        sk.load_corpus(write("number.jsonl", b'{"text": 3}\n'))
    with pytest.raises(DataError, match=r"latin.txt is not UTF-8: byte 2 is 0xE9"):
        sk.load_corpus(write("latin.txt", b"ab\xe9"))
    with pytest.raises(FileError, match=r"fake.parquet is not a parquet file"):
        sk.load_corpus(write("fake.parquet", b"hello"))
    with pytest.raises(FileError, match=r"cannot read documents from book.pdf[\s\S]*\.txt, \.jsonl, [\s\S]*\.parquet"):
        sk.load_corpus(write("book.pdf", b"%PDF"))
    with pytest.raises(FileError, match=r"did you mean 'bad.jsonl'"):
        sk.load_corpus(tmp_path / "bda.jsonl")
    with pytest.raises(DataError, match="holds no document"):
        sk.load_corpus(write("empty.jsonl", b"\n"))
    (tmp_path / "pictures").mkdir()
    write("pictures/a.png", b"")
    with pytest.raises(FileError, match=r"no documents in [\s\S]*\.png"):
        sk.load_corpus(tmp_path / "pictures")


def test_where() -> None:
    corpus = sk.load_corpus(ROWS)
    assert [d.text for d in corpus.where(topic="bridge", year=[1937, 1990])] == ["the gate"]
    assert [d.labels["year"] for d in corpus.where(known=True)] == [1937, 2001]
    with pytest.raises(UnknownNameError, match="unknown label 'topik'; did you mean 'topic'"):
        corpus.where(topik="bridge")
    with pytest.raises(UnknownNameError, match="value of label 'topic': 'bridg'; did you mean 'bridge'"):
        corpus.where(topic="bridg")
    with pytest.raises(ConfigError, match="no value for label 'topic'"):
        corpus.where(topic=[])
    with pytest.raises(DataError, match="holds no document"):
        list(corpus.where(topic="music", known=True))


def test_where_on_a_stream_is_checked_by_a_whole_pass() -> None:
    stream = sk.load_corpus(lambda: iter(ROWS))
    assert [d.text for d in stream.where(topic="music")] == ["a song"]
    with pytest.raises(UnknownNameError, match="did you mean 'bridge'"):
        list(stream.where(topic="bridg"))


@pytest.mark.parametrize("stream", [False, True])
def test_split_shares_nothing_loses_nothing_and_stays(stream: bool) -> None:
    rows = [{"text": str(i), "even": i % 2 == 0} for i in range(2000)]
    corpus = sk.load_corpus((lambda: iter(rows)) if stream else rows)
    train, held_out = corpus.split(0.1, seed=3)
    a, b = [d.text for d in train], [d.text for d in held_out]
    assert sorted(a + b, key=int) == [r["text"] for r in rows]
    assert 150 < len(b) < 250 and b == [d.text for d in corpus.split(0.1, seed=3)[1]]
    assert b != [d.text for d in corpus.split(0.1, seed=4)[1]]
    # a document stays on its side when the corpus is filtered or shuffled first
    filtered = [d.text for d in corpus.where(even=True).shuffle(1).split(0.1, seed=3)[1]]
    assert set(filtered) == {t for t in b if int(t) % 2 == 0}
    # a second split draws again
    assert 100 < len(list(train.split(0.1, seed=3)[1])) < 250
    with pytest.raises(ConfigError, match="fraction_held_out is too large"):
        corpus.split(1.0)


def test_take_and_shuffle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saekit.corpus.documents._SHUFFLE_BUFFER", 20)
    texts = [str(i) for i in range(100)]
    for corpus in (sk.load_corpus(texts), sk.load_corpus(lambda: iter(texts))):
        assert [d.text for d in corpus.take(3)] == ["0", "1", "2"]
        mixed = [d.text for d in corpus.shuffle(0)]
        assert mixed != texts and sorted(mixed, key=int) == texts
        assert mixed == [d.text for d in corpus.shuffle(0)] != [d.text for d in corpus.shuffle(1)]
    with pytest.raises(ConfigError, match="n is not positive"):
        corpus.take(0)


def test_frame_and_repr() -> None:
    corpus = sk.load_corpus(ROWS, name="mine")
    pd.testing.assert_frame_equal(corpus.to_frame().reset_index(drop=True), pd.DataFrame(ROWS))
    assert repr(corpus).splitlines()[:2] == ["Corpus 'mine': 3 documents", "  topic: bridge, music"]


def test_the_demo_corpus() -> None:
    corpus = sk.load_corpus("demo")
    assert len(corpus) > 500 and {"topic", "style"} <= set(corpus.label_names)
    assert len(corpus.where(topic="golden_gate_bridge")) > 10
