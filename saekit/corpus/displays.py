"""The HTML displays of a corpus, a document and token windows."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from ..display import Bars, Block, Numbers, Words, document, excerpt, facts, frame_table, note, number, shown, table

if TYPE_CHECKING:
    from .documents import Corpus, Document
    from .windows import Windows

N_DOCUMENTS = 3
"""Documents that are shown, from the first."""
N_CHARACTERS = 240
MANY = 100_000
"""Documents from which labels are not counted."""


@shown
def corpus_html(corpus: Corpus) -> str:
    """Its size, the values of its labels, and its first documents; nothing of a stream is read."""
    labels = ", ".join(corpus.label_names) or "none"
    if not corpus.in_memory:
        return document(f"Corpus {corpus.name!r}", "a stream, opened again at each reading", facts({"labels": labels}))
    n, first = len(corpus), list(islice(corpus, N_DOCUMENTS)) if len(corpus) else []
    return document(
        f"Corpus {corpus.name!r}",
        f"{n:,} document{'s' * (n != 1)}",
        *(_label(corpus, name) for name in corpus.label_names if n <= MANY),
        note(f"Labels: {labels}.") if n > MANY else None,
        table(
            [Words("first documents", [_text(d) for d in first]), Numbers("characters", [len(d.text) for d in first])]
        ),
    )


def _label(corpus: Corpus, name: str) -> Block | None:
    counts: dict[str, int] = {}
    for d in corpus:
        if name in d.labels:
            counts[str(d.labels[name])] = counts.get(str(d.labels[name]), 0) + 1
    if len(counts) > 50:
        return facts({name: f"{len(counts):,} values"})
    most = sorted(counts, key=lambda v: -counts[v])[:8]
    bars = table([Words(name, most), Bars("documents", [counts[v] for v in most])])
    rest = note(f"… {len(counts) - 8} more values of {name}") if len(counts) > 8 else ""
    return Block((bars or "") + rest)


def _text(d: Document) -> Block:
    text = d.text or f"{len(d.token_ids or ()):,} token ids"
    return excerpt([text[:N_CHARACTERS] + "…" * (len(text) > N_CHARACTERS)])


@shown
def document_html(d: Document) -> str:
    """Its labels, and its text or turns."""
    turns = {str(t.get("role", "?")): excerpt([str(t.get("content", ""))[:N_CHARACTERS]]) for t in d.turns[:20]}
    about = f"{len(d.text):,} characters" if d.token_ids is None else f"{len(d.token_ids):,} token ids"
    return document("Document", about, facts(dict(d.labels)), None if turns else _text(d), facts(turns))


@shown
def windows_html(w: Windows) -> str:
    """Their sizes and labels."""
    labels = ", ".join(map(str, w.labels.columns)) or "none"
    size = {"tokens": w.n_tokens, "documents": w.n_documents, "tokens per window": number(w.n_tokens / max(len(w), 1))}
    head = frame_table(w.labels.head(5), names="document") if len(w.labels.columns) else None
    return document("Windows", f"{len(w):,} windows of {w.length}", facts(size | {"labels": labels}), head)
