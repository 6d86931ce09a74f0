"""The text of tokens on every tokenizer build: strings, indexes, concepts, search and streams against the tokenizer's
own offsets and whole decodes.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import saekit as sk
from saekit.index.text import IndexText
from saekit.models.text_matching import tokens_of_matches

from . import zoo
from .zoo_tokenizers import MIXED

BUILDS = {
    "llama2": "llama",
    "mistral": "mistral",
    "phi3": "phi3",
    "gemma": "gemma",
    "gpt2": "gpt2",
    "neox": "neox",
    "llama3": "llama_tied",
    "qwen": "qwen3",
    "opt": "opt",
    "bloom": "granite",
    "plain": "llama_plain",
    "unigram": "nemotron",
    "wordpiece": "gpt2_wordpiece",
}
"""Tokenizer build -> a model of the zoo that has it."""
LOSSLESS = ("llama2", "mistral", "phi3", "gemma", "gpt2", "llama3", "opt", "bloom", "plain")
"""Builds that decode to the text they were given."""
PATTERNS = [
    r"\bthe\b",
    r"golden\s+gate",
    r"(?i)bridge",
    r"🦙+",
    r"\w*é\w*",
    r"[\u4e00-\u9fff]+",
    r"\b[א-ת]+\b",
    r"الجسر",
    r"\d+",
    r"f\(x",
    r"[^\w\s]",
    r"\w+",
    "g",
]
"""Each begins and ends with a character that is no space: to which token a space belongs, builds see differently."""


FAST = ("llama2", "gemma", "gpt2", "llama3", "unigram", "wordpiece")


@pytest.fixture(params=[pytest.param(b, marks=() if b in FAST else pytest.mark.slow) for b in BUILDS], scope="module")
def build(request):
    return request.param


@pytest.fixture(scope="module")
def zoo_model(build):
    return zoo.load(BUILDS[build])


def mixed_texts(n: int, seed: int = 0) -> list[str]:
    """Documents of fragments of the mixed text in any order, some cut in the middle of words."""
    random = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        parts = []
        for text in random.permutation(MIXED)[: random.integers(1, 4)]:
            a, b = sorted(random.integers(0, len(text) + 1, 2))
            parts.append(text if random.random() < 0.5 else text[a:b])
        out.append(str(random.choice(["", " ", "\n"])).join(parts))
    return [text for text in out if text.strip()]


# ---- strings ---------------------------------------------------------------------------------------------------------


def test_strings_of_tokens_are_together_the_text(build, zoo_model):
    model = zoo_model.model
    for text in [*MIXED, *mixed_texts(20, seed=1)]:
        ids, strings = model.tokenize_with_strings(text, bos=False)
        assert ids == model.tokenize(text, bos=False) and len(strings) == len(ids)
        if ids:
            assert "".join(strings) == text
        whole = zoo_model.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if build in LOSSLESS:
            assert "".join(model.token_strings(ids)) == text == model.decode(ids)
        else:
            assert "".join(model.token_strings(ids)) == whole
        if build in ("neox", "qwen"):
            assert whole == unicodedata.normalize("NFC", text)


def test_a_token_alone_is_shown_with_its_space(build, zoo_model):
    model = zoo_model.model
    ids = model.tokenize("gate the gate", bos=False)
    shown = [model.vocabulary.shown[i] for i in ids]
    assert "".join(shown).removeprefix(" ") == "gate the gate"
    assert " the" in shown


def test_what_goes_on_from_other_text_gets_no_space_of_the_tokenizers_own(build, zoo_model):
    model = zoo_model.model
    for text in (" gate", " 🦙", "gate", " the gate"):
        ids = model.tokenize_next(text)
        own = b" " if build == "wordpiece" and text[0] != " " else b""  # its decoder puts one before every word
        assert b"".join(model.vocabulary.bytes_of(ids, begins=False)) == own + text.encode()


# ---- indexes, concepts, search ---------------------------------------------------------------------------------------


def random_sae(model: Any) -> sk.SAE:
    return sk.SAE(
        sk.SAEConfig(
            d_in=model.d_model,
            d_sae=64,
            activation="topk",
            k=4,
            hook_name="blocks.0.hook_resid_post",
            model_name=model.name,
            weight_processing=model.weight_processing,
            token_filter=sk.TokenFilter(special_ids=tuple(sorted(model.special_ids))),
        )
    )


@pytest.fixture(scope="module")
def texts():
    return [*MIXED, *mixed_texts(40)]


@pytest.fixture(scope="module")
def index(zoo_model, texts, tmp_path_factory):
    out = tmp_path_factory.mktemp("zoo") / "index"
    corpus = sk.load_corpus(texts, name="mixed")
    return sk.build_index(zoo_model.model, random_sae(zoo_model.model), corpus, out=out, length=448, progress=False)


def tokens_by_offsets(model: Any, texts: list[str]) -> pd.DataFrame:
    """One row for each token of each document: its number, and the characters it came from, as the tokenizer says."""
    rows = []
    for number, text in enumerate(texts):
        out = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        rows += [(number, i, a, b) for i, (a, b) in zip(out["input_ids"], out["offset_mapping"], strict=True)]
    return pd.DataFrame(rows, columns=["document", "id", "start", "end"])


def masks_by_offsets(index: Any, table: pd.DataFrame, texts: list[str], pattern: str) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens share a character with a match, document by document; and the same where each token also has the
    characters between it and its neighbours: normalisers drop some, and no offsets say whose they were.
    """
    strict, lenient = [], []
    for number, part in table.groupby("document"):
        start, end = part["start"].to_numpy(), part["end"].to_numpy()
        after = np.concatenate([[0], np.maximum.accumulate(end)[:-1]])
        upto = np.append(start, len(texts[number]))[np.searchsorted(start, end)]  # where the next token begins
        own, more = np.zeros((2, len(part)), bool)
        for m in re.compile(pattern, re.IGNORECASE).finditer(texts[number]):
            own |= (start < m.end()) & (end > m.start())
            more |= (np.minimum(start, after) < m.end()) & (upto > m.start())
        strict.append(own)
        lenient.append(more)
    documents = index.windows.documents.reshape(-1).numpy() >= 0
    assert index.windows.tokens.reshape(-1).numpy()[documents].tolist() == table["id"].tolist()
    both = np.zeros((2, len(documents)), bool)
    both[0, documents], both[1, documents] = np.concatenate(strict), np.concatenate(lenient)
    return both[0], both[1]


def check_masks(index: Any, model: Any, texts: list[str]) -> None:
    table = tokens_by_offsets(model, texts)
    strings = index.token_strings(np.arange(index.windows.tokens.numel()))
    own_space = ~np.array([bool(s) for s in strings]) & np.isin(index.windows.tokens.reshape(-1), space_ids(model))
    for pattern in PATTERNS:
        got = sk.Concept.regex(pattern).flat_mask(index)
        least, most = masks_by_offsets(index, table, texts, pattern)
        wrong = np.flatnonzero(((least & ~got) | (got & ~most)) & ~own_space)
        around = ["|".join(strings[max(0, i - 3) : i + 4]) for i in wrong[:5].tolist()]
        assert not len(wrong), (pattern, len(wrong), got[wrong[:5]], around)


def space_ids(model: Any) -> list[int]:
    """A ▁ that a tokenizer puts before a text reads as nothing there, though its offsets are those of a letter."""
    return [i for i, shown in enumerate(model.vocabulary.shown) if shown == " "]


def test_masks_of_concepts_equal_the_tokenizers_offsets(build, zoo_model, index, texts):
    check_masks(index, zoo_model.model, texts)


@pytest.mark.slow
def test_over_many_tokens_no_mask_differs(build, zoo_model):
    """With those of the other builds, more than 100,000 tokens."""
    model = zoo_model.model
    texts = mixed_texts(180, seed=2)
    windows = sk.tokenize(texts, model, length=448)
    assert windows.n_tokens > 100_000 / len(BUILDS)
    check_masks(TextOnly(windows, IndexText(windows, model.vocabulary, model.special_ids)), model, texts)


class TextOnly:
    """As much of an index as the text of its windows needs: nothing is run."""

    def __init__(self, windows: sk.Windows, text: IndexText) -> None:
        self.windows, self.texts = windows, text.runs
        self.token_strings = lambda positions: text.strings(
            positions, windows.tokens.reshape(-1)[torch.from_numpy(positions)].tolist()
        )


def test_the_texts_of_an_index_are_the_documents(build, zoo_model, index, texts):
    whole: dict[int, str] = {}
    for begin, _, run in index.texts():
        number = int(index.windows.documents.reshape(-1)[begin])
        whole[number] = whole.get(number, "") + run.text
    got = {n: text.encode("utf8", "surrogateescape").decode("utf8") for n, text in whole.items()}
    assert got == {n: text for n, text in enumerate(texts) if n in got} and len(got) == len(texts)


def test_keywords_find_every_document_that_has_them(build, zoo_model, index, texts):
    for word in ("bridge", "the", "great", "done"):
        held = sk.Concept.keywords(word).document_mask(index)
        want = [n for n, text in enumerate(texts) if re.search(rf"\b{word}\b", text, re.IGNORECASE)]
        assert np.asarray(index.documents.index)[held].tolist() == want and len(want) >= 4


def test_search_by_text_counts_the_firings_inside_matches(build, zoo_model, index, texts):
    inside = sk.Concept.regex("gate").token_mask(index)
    found = index.search(text="gate", n=64).set_index("feature")
    rows = index.by_token
    for feature in found.index[:5]:
        positions = index.firings(int(feature)).position
        assert found["n_firings"][feature] == int(np.isin(positions, index.kept[inside]).sum())
    assert found["fraction"].between(0, 1 + 1e-6).all() and rows is not None


# ---- what is written -------------------------------------------------------------------------------------------------


def text_by_bytes(tokenizer: Any, ids: list[int]) -> str:
    """The decode, with bytes that are no character left out one by one where the tokenizer leaves out whole runs."""
    names = tokenizer.convert_ids_to_tokens(ids)
    if any(re.fullmatch("<0x..>", name) for name in tokenizer.convert_ids_to_tokens(list(range(10)))):
        pieces = [
            bytes([int(n[3:5], 16)]) if re.fullmatch("<0x..>", n) else n.replace("▁", " ").encode() for n in names
        ]
        return b"".join(pieces).decode("utf8", "ignore")
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False).replace("\ufffd", "")


def test_generated_and_streamed_text_is_the_tokenizers_decode(build, zoo_model):
    model, tokenizer = zoo_model.model, zoo_model.tokenizer
    for prompt in (zoo.PROMPT, "Yes 🦙"):
        out = sk.generate(model, prompt, max_new_tokens=40)
        before = model.tokenize(prompt, bos=False)
        new = [i for i in out.tokens if i not in model.special_ids]
        want = text_by_bytes(tokenizer, [*before, *new]).removeprefix(text_by_bytes(tokenizer, before))
        got = re.sub("\ufffd|<unused [0-9]+>", "", out.text)  # rows of the model that the tokenizer does not know
        assert got == want
        streamed = list(sk.stream(model, prompt, max_new_tokens=40))
        assert "".join(t.text for t in streamed) == out.text and tuple(t.token for t in streamed) == out.tokens


def test_highlight_shows_the_text(build, zoo_model):
    model = zoo_model.model
    for text in MIXED:
        widget = sk.highlight(model, random_sae(model), text)
        shown = widget.tokens[1:] if model.facts.prepend_bos else widget.tokens
        assert "".join(shown) == text


@pytest.mark.parametrize("name", ["qwen3", "neox"])
def test_letters_written_as_several_characters_are_matched_at_their_own_tokens(name):
    """The tokenizer composes them, and its offsets name the first character alone; the rest belongs to it as well."""
    model = zoo.load(name).model
    text = unicodedata.normalize("NFD", "Việt Nam 한국어 문장 the café the end")
    _, strings = model.tokenize_with_strings(text, bos=False)
    assert (
        "".join(strings) == text and " the" in strings and not any(unicodedata.combining(s[:1] or "a") for s in strings)
    )
    offsets = model.tokenize_with_offsets(text)[1]
    [windows] = [sk.tokenize([text], model, length=64, prepend_bos=False)]
    shown = IndexText(windows, model.vocabulary, model.special_ids)
    for word in ("Việt", "한국어", "café", "문장"):
        found = re.search(unicodedata.normalize("NFD", word), text)
        [run] = shown.runs()
        [(first, last)] = tokens_of_matches(run.text, [found.span()])
        assert [n for n, (a, b) in enumerate(offsets) if a < found.end() and b > found.start()] == list(
            range(first, last)
        )


def test_the_space_of_a_tokenizer_after_a_special_token_reads_as_nothing():
    model = zoo.load("llama").model
    for text, expected in (("hi</s> the bridge", ["</s>", "", " the"]), ("hi</s>\nthe", ["</s>", "", "\n"])):
        strings = model.tokenize_with_strings(text, bos=False)[1]
        at = strings.index("</s>")
        assert strings[at : at + 3] == expected and "".join(strings) == text
