"""Any text: tables, compressed files, encodings, datasets, conversations and token ids, in every function."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import saekit as sk
from conftest import HOOK
from saekit.errors import ConfigError, DataError, FileError, UnknownNameError

ROWS = [
    {"text": "the gate", "topic": "bridge", "year": 1937, "known": True},
    {"text": "a song", "topic": "music", "year": 1990, "known": False},
    {"text": "über die Brücke\nund zurück", "topic": "bridge", "year": 2001, "known": True},
]


def as_rows(corpus: sk.Corpus) -> list[dict[str, object]]:
    return [{"text": d.text, **d.labels} for d in corpus]


def test_a_table_keeps_its_types_quotes_and_line_breaks(tmp_path: Path) -> None:
    rows = [{**r, "code": "007", "nothing": "NA"} for r in ROWS]
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    pd.DataFrame(rows).to_csv(tmp_path / "rows.tsv", index=False, sep="\t")
    for name in ("rows.csv", "rows.tsv"):
        assert as_rows(sk.load_corpus(tmp_path / name)) == rows
    (tmp_path / "ragged.csv").write_text("text,x\na,1\nb,2,3\n")
    with pytest.raises(DataError, match=r"ragged.csv is not a table"):
        sk.load_corpus(tmp_path / "ragged.csv")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t")), min_size=1))
def test_any_text_survives_a_table(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("csv") / "any.csv"
    with path.open("w", encoding="utf8", newline="") as f:
        csv.writer(f, quoting=csv.QUOTE_ALL).writerows([["text"], *([t] for t in texts)])
    assert [d.text for d in sk.load_corpus(path)] == texts


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.json", "rows.parquet"])
@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_compressed_files_are_read_the_same_and_damage_is_named(tmp_path: Path, name: str, ending: str) -> None:
    frame, path = pd.DataFrame(ROWS), tmp_path / name
    if name.endswith("json"):
        path.write_text(json.dumps(ROWS))
    elif name.endswith("jsonl"):
        path.write_text("\n".join(map(json.dumps, ROWS)))
    else:
        frame.to_csv(path, index=False) if name.endswith("csv") else frame.to_parquet(path)
    data = path.read_bytes()
    packed = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}.get(
        ending, lambda d: pa.compress(d, "zstd", asbytes=True)
    )(data)
    whole = tmp_path / f"whole-{name}{ending}"
    whole.write_bytes(packed)
    assert as_rows(sk.load_corpus(whole)) == ROWS
    (tmp_path / f"cut-{name}{ending}").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(FileError, match="cut-"):
        sk.load_corpus(tmp_path / f"cut-{name}{ending}")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig", "utf-32", "utf-16-le"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.txt"])
def test_encodings(tmp_path: Path, encoding: str, name: str) -> None:
    said = "über\u00a0é"
    content = {"rows.jsonl": json.dumps({"text": said}, ensure_ascii=False), "rows.csv": f"text,n\n{said},1\n"}
    (tmp_path / name).write_text(content.get(name, said), encoding)
    assert [d.text for d in sk.load_corpus(tmp_path / name, encoding=encoding)] == [said]
    if encoding in ("utf-16", "utf-32", "utf-8-sig"):
        assert [d.text for d in sk.load_corpus(tmp_path / name)] == [said]
    if encoding == "latin-1":
        with pytest.raises(DataError, match=r"is not UTF-8: byte \d+ is 0xFC[\s\S]*encoding="):
            sk.load_corpus(tmp_path / name)
    with pytest.raises(ConfigError, match="unknown encoding 'latin-99'"):
        sk.load_corpus(tmp_path / name, encoding="latin-99")


def test_saved_datasets_and_datasets_in_memory_name_their_classes_and_splits(tmp_path: Path) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "kind": datasets.ClassLabel(names=["bridge", "song"])}
    )
    made = datasets.Dataset.from_list([{"text": "a", "kind": 0}, {"text": "b", "kind": 1}], features=features)
    expected = [{"text": "a", "kind": "bridge"}, {"text": "b", "kind": "song"}]
    made.save_to_disk(tmp_path / "one")
    both = datasets.DatasetDict({"train": made, "validation": made.select([1])})
    both.save_to_disk(tmp_path / "both")
    made.to_parquet(tmp_path / "made.parquet")
    for source in (tmp_path / "one", tmp_path / "both", tmp_path / "made.parquet", made, both, made.with_format("np")):
        assert as_rows(sk.load_corpus(source)) == expected
    stream = sk.load_corpus(made.to_iterable_dataset())
    assert as_rows(stream) == expected == as_rows(stream) and not stream.in_memory
    for source in (tmp_path / "both", both):
        assert as_rows(sk.load_corpus(source, split="validation")) == expected[1:]
        with pytest.raises(UnknownNameError, match=r"'validaton'; did you mean 'validation'"):
            sk.load_corpus(source, split="validaton")


def test_files_and_folders_named_after_a_split(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for name in ("train-0.csv", "train-1.csv", "dev/x.csv"):
        (tmp_path / name).write_text(f"text\n{name}\n")
    assert [d.text for d in sk.load_corpus(tmp_path, split="train")] == ["train-0.csv", "train-1.csv"]
    assert [d.text for d in sk.load_corpus(tmp_path, split="validation")] == ["dev/x.csv"]
    assert len(sk.load_corpus(tmp_path)) == 3
    with pytest.raises(UnknownNameError, match=r"no file of [\s\S]* is of split 'test'"):
        sk.load_corpus(tmp_path, split="test")
    with pytest.raises(ConfigError, match="only datasets and files have splits"):
        sk.load_corpus(["a"], split="test")


def test_nested_fields() -> None:
    rows = [{"message": {"content": "a", "by": "me"}, "turns": [{"said": "x"}, {"said": "y"}], "id": 1}]
    read = sk.load_corpus(rows, text="message.content", labels=["message.by", "id"])
    assert as_rows(read) == [{"text": "a", "message.by": "me", "id": 1}]
    assert [d.text for d in sk.load_corpus(rows, text="turns.said")] == ["x\ny"]
    assert [d.text for d in sk.load_corpus(rows, text="turns.1.said")] == ["y"]
    with pytest.raises(UnknownNameError, match=r"'message.contnt'; did you mean 'message.content'"):
        sk.load_corpus(rows, text="message.contnt")


TURNS = [{"role": "user", "content": "a cat"}, {"role": "assistant", "content": "a mat"}]


def test_a_conversation_is_read_in_the_template_of_the_model(model) -> None:
    corpus = sk.load_corpus([{"messages": TURNS, "topic": "cats"}], text="messages")
    columns = sk.load_corpus(
        [{"messages": {"role": ["user", "assistant"], "content": ["a cat", "a mat"]}}], text="messages"
    )
    assert next(iter(corpus)).turns == tuple(TURNS) == next(iter(columns)).turns
    before = model.tokenizer.chat_template
    try:
        model.tokenizer.chat_template = "{% for m in messages %}{{ m['role'][0] }} {{ m['content'] }} {% endfor %}"
        windows, plain = (sk.tokenize(c, model, length=64) for c in (corpus, ["u a cat a a mat "]))
        assert windows.tokens.tolist() == plain.tokens.tolist() and windows.labels["topic"].tolist() == ["cats"]
        model.tokenizer.chat_template = None
        with pytest.raises(ConfigError, match="holds conversations and native has no chat template"):
            sk.tokenize(corpus, model, length=64)
    finally:
        model.tokenizer.chat_template = before


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_token_ids_are_kept_as_they_are(model, kind) -> None:
    ids = [40, 41, 40, 5]
    for source in ([kind(ids)], [{"input_ids": kind(ids)}]):
        windows = sk.tokenize(sk.load_corpus(source, text="input_ids"), model, length=16, prepend_bos=False)
        assert windows.tokens[0, :4].tolist() == ids and windows.n_tokens == 4
    with pytest.raises(DataError, match="token ids outside the vocabulary of native"):
        sk.tokenize(sk.load_corpus([kind([3, model.d_vocab])]), model, length=16)


def test_a_digest_says_whether_two_corpora_are_the_same() -> None:
    assert sk.load_corpus(ROWS).digest == sk.load_corpus(pd.DataFrame(ROWS), name="x").digest
    assert sk.load_corpus(ROWS).digest != sk.load_corpus([*ROWS[:2], {**ROWS[2], "topic": "x"}]).digest
    stream, other = sk.load_corpus(lambda: iter("ab")), sk.load_corpus(lambda: iter("ac"))
    assert stream.digest == sk.load_corpus(lambda: iter("ab")).digest != other.digest
    assert len({c.digest for c in (stream, stream.take(1), *stream.split(0.5), stream.split(0.4)[0])}) == 5
    once = sk.load_corpus(iter("ab"))
    assert once.digest and [d.text for d in once] == ["a", "b"]


def test_every_function_with_a_corpus_takes_plain_texts_and_refuses_other_things_in_one_way(model, sae, tmp_path):
    texts = ["a cat sat on a mat near the golden gate", "a song of the sea and the fog"] * 40
    short = {"progress": False}
    config = sk.TrainConfig(n_tokens=256, batch_size=64, context_size=16, buffer_tokens=256)
    chosen = sk.SAEConfig(d_in=32, d_sae=64, activation="topk", k=4)
    verbs = {
        "tokenize": lambda c: sk.tokenize(c, model, length=16),
        "iter_windows": lambda c: next(sk.iter_windows(c, model, length=16)),
        "train": lambda c: sk.train(model, c, sae=chosen, config=config, hook_name=HOOK, **short),
        "evaluate": lambda c: sk.evaluate(model, sae, c, length=16, n_tokens=200, **short),
        "build_index": lambda c: sk.build_index(model, sae, c, out=tmp_path / "index", length=16, **short),
        "cache_activations": lambda c: sk.cache_activations(model, c, HOOK, tmp_path / "acts", length=16, **short),
        "activation_batches": lambda c: next(sk.activation_batches(model, c, HOOK, batch_size=64, length=16)),
        "fit_token_filter": lambda c: sk.fit_token_filter(model, c, HOOK),
        "ablation_sparsity": lambda c: sk.ablation_sparsity(
            model, sae, c, n_tokens=1, n_features=1, n_following=2, length=16, **short
        ),
        "scaling_study": lambda c: sk.scaling_study(
            model,
            c,
            widths=(8,),
            sparsities=(2,),
            config=config,
            hook_name=HOOK,
            budgets=(256,),
            n_held_out=64,
            **short,
        ),
    }
    for name, verb in verbs.items():
        assert verb(texts) is not None, name
        for wrong, says in ((7, "this is not a corpus"), ("a text", "one string is not a corpus")):
            with pytest.raises(DataError, match=says):
                verb(wrong)
    with pytest.raises(DataError, match="this is not a corpus"):
        sk.sparse_probing(model, sae, 7, label="x")


def test_an_index_and_a_cache_keep_labels_of_several_types(model, sae, tmp_path: Path) -> None:
    lines = [
        {"text": "the gate", "y": "1", "z": 1.5, "half": "\ud83dx"},
        {"text": "the cat", "y": 2, "z": "unknown", "half": "\U0001f600ü"},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    corpus = sk.load_corpus(tmp_path / "rows.jsonl")
    sk.build_index(model, sae, corpus, out=tmp_path / "index", length=8, progress=False)
    expected = {"y": ["1", "2"], "z": ["1.5", "unknown"], "half": ["\ufffdx", "\U0001f600ü"]}
    assert sk.load_index(tmp_path / "index").documents.to_dict("list") == expected
    cache = sk.cache_activations(model, corpus, HOOK, tmp_path / "cache", length=8, progress=False)
    assert cache.windows.labels["y"].tolist() == ["1", "2"]


def test_class_labels_inside_fields_and_lists_come_as_their_names(tmp_path: Path) -> None:
    mood = datasets.ClassLabel(names=["bad", "good"])
    text = datasets.Value("string")
    fields = {"text": text, "mood": mood, "deep": {"mood": mood, "n": datasets.Value("int32")}}
    features = datasets.Features({"m": fields, "turns": [{"said": text, "mood": mood}], "moods": datasets.List(mood)})
    turns = [{"said": "x", "mood": 0}, {"said": "y", "mood": 1}]
    row = {"m": {"text": "a", "mood": 1, "deep": {"mood": 0, "n": 7}}, "turns": turns, "moods": [1, 0]}
    without = {"text": "b", "mood": -1, "deep": {"mood": None, "n": 8}}
    second_row = {"m": without, "turns": [{"said": "x", "mood": -1}, turns[0]], "moods": [0]}
    dataset = datasets.Dataset.from_list([row, second_row], features=features)
    dataset.to_parquet(tmp_path / "rows.parquet")
    names = ["m.mood", "m.deep.mood", "m.deep.n", "turns.0.mood", "turns.1.mood", "moods.0"]
    for source in (dataset, dataset.to_iterable_dataset(), tmp_path / "rows.parquet"):
        first = next(iter(sk.load_corpus(source, text="m.text", labels=names)))
        assert list(first.labels.values()) == ["good", "bad", 7, "bad", "good", "good"]
        second = list(sk.load_corpus(source, text="m.text", labels=names))[1]
        assert dict(second.labels) == {"m.deep.n": 8, "turns.1.mood": "bad", "moods.0": "bad"}


def test_long_numbers_in_a_table_stay_apart(tmp_path: Path) -> None:
    ids = ["12345678901234567890", "12345678901234567891", "7"]
    pd.DataFrame({"text": ["a", "b", "c"], "id": ids}).to_csv(tmp_path / "rows.csv", index=False)
    assert [d.labels["id"] for d in sk.load_corpus(tmp_path / "rows.csv")] == ids
