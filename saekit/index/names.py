"""What features are called: the words that carry their activation, else the words that stand around their firings.

A feature fires somewhere for a reason, and what it fires on says it better than what it promotes. The up to three words
that carry most of its activation are its name, where they carry half of it, with the word before them where that sets
its firings apart ("golden gate"). Pieces of words (…ing) stand for words where they carry clearly more. Else its name
is the words that stand beside its firings more often than beside other text; else it is called mixed.

A name is made on half of the documents (`halves`), and the fraction that is stated of it, the part of the activation
that its words carry, is of the other half. A feature that fires in fewer than MIN_DOCUMENTS of either half is named
by all documents, and no fraction is stated.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from ..json_files import damaged
from .name_rules import (
    AFTER,
    BEFORE,
    BY,
    CAPITALS,
    N_LEAD,
    N_WORDS,
    NUMBERS,
    PIECE,
    WORD,
    NamedText,
    RowFirings,
    Rule,
    forms,
    occurrences,
    slots,
    strongest,
)
from .name_spelling import name_text, shown_word
from .sparse import Sparse
from .store import NAMES, Store

RULE = 1
"""Of these names; an index that stores those of another rule is named again."""
MIN_DOCUMENTS = 5
"""In each half, below which no fraction is stated."""
CARRIED = 0.5
"""The part of the activation that a name's words carry."""
LEAST = 0.2
"""Of the first word's part: a further word has at least so much, where half is carried without it."""
PIECES = 0.8
"""Words stand for their pieces where they carry at least so much of what the pieces do."""
PHRASE, PHRASE_LIFT = 0.8, 2.0
"""A word before belongs to the name where it precedes so much of the activation, and so many times as much of that on
the name's words in other text."""
ALWAYS = 0.95
"""One before that belongs to it too where it precedes so much."""
CHANCE = 0.01
"""How likely it may be that as many documents have the word before by chance."""
OF_KIND = {NUMBERS: 0.5, CAPITALS: 0.7}
"""The part of the activation that words of a kind carry at least."""
CONTEXT_LIFT = 3.0
"""How many times as often context words stand beside firings as beside other tokens, at least."""
OVER_OWN = 1.5
"""How many times as much activation is beside context words as on the words it is most on, at least."""
N_MIXED = 2
COLUMNS = ("name", "kind", "fraction", "coverage", "n_documents", "by", "words", "lead")
BLOCK_FIRINGS = 4_000_000
"""Firings that are worked on at once."""


def name_features(columns: Sparse, text: NamedText) -> pd.DataFrame:
    """The names of all features of `columns` (activations by feature), a row each.

    name; kind: "token", "context", "mixed" or "silent"; fraction; coverage: the part of what its rule holds for on
    which it fires; n_documents that these are of, 0 where the name is made of all documents; and the rule: by, words
    (as they are compared: in lower case), lead.
    """
    blocks, first = [], 0
    while first < columns.n_rows:
        last = int(np.searchsorted(columns.start, columns.start[first] + BLOCK_FIRINGS, side="right")) - 1
        last = max(first + 1, last)
        blocks.append(_name_block(RowFirings.of(columns, first, last), text))
        first = last
    return pd.concat(blocks, ignore_index=True).rename_axis("feature")


def stored_names(index: Store) -> pd.DataFrame:
    """What `name_features` gave when an index was built; FileError for a file that holds something else."""
    with damaged(index.folder / NAMES):
        table = index.frame(NAMES).rename_axis("feature")
        for column in ("words", "lead"):
            table[column] = [list(map(str, row)) for row in table[column]]
        table = table[list(COLUMNS)]
        if not table["by"].isin(BY).all() or not all(isinstance(name, str) for name in table["name"]):
            raise ValueError("a name is no text, or by a rule that there is not")
    return table


def _name_block(firings: RowFirings, text: NamedText) -> pd.DataFrame:
    n_made, n_told = _n_documents(firings, text)
    enough = (n_made >= MIN_DOCUMENTS) & (n_told >= MIN_DOCUMENTS)
    made = text.made[firings.token] | ~enough[firings.row]
    source = firings.select(made)
    total = source.total()
    live = total > 0
    rule = _own_words(source, text, total, enough)
    on = slots(text, source, rule) >= 0
    half = _carries_half(source, text, on, total, enough)
    _add_lead(source.select(on & (half & (rule.by == WORD))[source.row]), text, rule, enough)
    others = source.select(~half[source.row])
    of_kind = _kind(others, text, rule, total, ~half & live, enough)
    half |= of_kind
    others = others.select(~half[others.row])
    in_context = _context(others, text, rule, total, ~half & live, enough)
    mixed = live & ~half & ~in_context
    _distinctive(others, text, rule, total, mixed, enough)
    kind = np.select([~live, half, in_context], ["silent", "token", "context"], "mixed")
    name = _spelt(source, text, rule, kind)
    told = firings.select(~made)
    slot = slots(text, told, rule)
    of = told.total()
    fraction = np.divide(told.total(slot >= 0), of, out=np.full(len(of), np.nan), where=enough & (of > 0))
    n_there = occurrences(text, rule)
    n_on = np.bincount(told.row[slot >= 0], minlength=len(of))
    coverage = np.divide(n_on, n_there, out=np.full(len(of), np.nan), where=enough & (n_there > 0))
    return pd.DataFrame(
        {
            "name": name,
            "kind": kind,
            "fraction": fraction,
            "coverage": coverage,
            "n_documents": np.where(np.isnan(fraction), 0, n_told),
            "by": np.array(BY, dtype=object)[rule.by],
            "words": _as_text(text, rule.keys),
            "lead": _as_text(text, rule.lead),
        }
    )


def _n_documents(firings: RowFirings, text: NamedText) -> tuple[np.ndarray, np.ndarray]:
    """In how many documents each feature fires: of those that names are made on, and of the others."""
    n = len(text.halves)
    found = firings.by_key(text.one_each(text.document_key, n + 1))
    row = np.repeat(np.arange(firings.n_rows), np.diff(found.indptr))
    made, inside = np.append(text.halves, False)[found.indices], found.indices < n
    return tuple(np.bincount(row[of & inside], minlength=firings.n_rows) for of in (made, ~made))  # type: ignore


def _own_words(source: RowFirings, text: NamedText, total: np.ndarray, enough: np.ndarray) -> Rule:
    """The words that carry most, or the pieces where they carry clearly more."""
    keys, mass = strongest(_in_several(source, text, WORD, enough), N_WORDS)
    in_parts = source.total(text.form[WORD][source.token] != text.form[PIECE][source.token])
    some = in_parts > (1 - PIECES) * total  # elsewhere pieces cannot carry clearly more
    pieces, piece_mass = strongest(_in_several(source.select(some[source.row]), text, PIECE, enough), N_WORDS)
    better = mass.sum(1) < PIECES * piece_mass.sum(1)
    keys, mass = np.where(better[:, None], pieces, keys), np.where(better[:, None], piece_mass, mass)
    earlier = np.cumsum(mass, axis=1) - mass
    used = (earlier < CARRIED * total[:, None]) | (mass >= LEAST * mass[:, :1])
    return Rule(np.where(better, PIECE, WORD), np.where(used, keys, -1), np.full((len(keys), N_LEAD), -1))


def _in_several(source: RowFirings, text: NamedText, by: int, enough: np.ndarray) -> sparse.csr_matrix:
    """The activation of each feature on each key, without what is in a single document where there are more."""
    keys, of = text.in_documents(by)
    found = source.by_key(keys)
    row = np.repeat(np.arange(source.n_rows), np.diff(found.indptr))
    one_each = found.data + 1j * (found.data > 0)  # how much, and in how many documents
    mass = sparse.coo_matrix((one_each, (row, of[found.indices])), shape=(source.n_rows, text.n_keys)).tocsr()
    row = np.repeat(np.arange(source.n_rows), np.diff(mass.indptr))
    shared = np.where(enough[row] & (mass.data.imag < 2), 0.0, mass.data.real)
    return sparse.csr_matrix((shared, mass.indices, mass.indptr), shape=mass.shape)


def _carries_half(
    source: RowFirings, text: NamedText, hits: np.ndarray, total: np.ndarray, enough: np.ndarray
) -> np.ndarray:
    """Whether some of the firings carry half of each feature's activation; where documents are several, without the one
    that has most of it too."""
    found = source.by_key(text.one_each(text.document_key, len(text.halves) + 1), 1 + 1j * hits)
    row, whole, on = np.repeat(np.arange(source.n_rows), np.diff(found.indptr)), found.data.real, found.data.imag
    carried = np.bincount(row, on, source.n_rows)
    [filled] = np.nonzero(np.diff(found.indptr))
    most, there = np.zeros(source.n_rows), np.zeros(source.n_rows)
    if len(filled):
        most[filled] = np.maximum.reduceat(on, found.indptr[filled])
    at = np.flatnonzero((on == most[row]) & (on > 0))
    np.maximum.at(there, row[at], whole[at])
    without = carried - most >= CARRIED * (total - there)
    half: np.ndarray = (total > 0) & (carried >= CARRIED * total) & (without | ~enough)
    return half


def _add_lead(on: RowFirings, text: NamedText, rule: Rule, enough: np.ndarray) -> None:
    """Puts the words that precede into the rule, where they set a feature's firings on its words apart."""
    ids, active, of = rule.keys.astype(np.int64), on.total() > 0, np.where(enough, 0, 1)[:, None]
    for n in range(1, N_LEAD + 1):
        known = text.prefixes(n)
        by_prefix = sparse.coo_matrix((on.value, (on.row, known.before[on.token])), shape=(on.n_rows, text.n_keys))
        found, mass = strongest(by_prefix.tocsr(), 1)
        prefix, part = found[:, 0], np.divide(mass[:, 0], on.total(), out=np.zeros(on.n_rows), where=on.total() > 0)
        ids_here = known.pair_of(ids, prefix, text.n_keys)
        n_with = np.where(ids_here >= 0, known.n_of_pair[of, ids_here], 0).sum(1)
        usual = n_with / np.maximum(np.where(ids >= 0, known.n_of_level[of, ids], 0).sum(1), 1)
        n_documents = sum(_n_documents(on, text))
        apart = (part >= PHRASE) & (part >= PHRASE_LIFT * usual) & (usual**n_documents <= CHANCE)
        active &= (prefix > 0) & (apart | (part >= ALWAYS) & (n > 1))
        rule.lead[active, n - 1] = prefix[active]
        ids = np.where(active[:, None], ids_here, -1)
        on = on.select(active[on.row] & (known.before[on.token] == prefix[on.row]))


def _kind(
    others: RowFirings, text: NamedText, rule: Rule, total: np.ndarray, which: np.ndarray, enough: np.ndarray
) -> np.ndarray:
    """The features that fire on numbers or on words with a capital, and whose words are two that set them apart."""
    base = text.part_of(text.one_each(text.key[WORD], text.n_keys))
    found = np.zeros(len(which), dtype=bool)
    for kind, least in OF_KIND.items():
        part = others.total(text.of_kind[kind][others.token]) / np.maximum(total, 1e-30)
        usual = text.part_of(sparse.csr_matrix(text.of_kind[kind][:, None] * 1.0))[np.where(enough, 0, 1), 0]
        taken = which & ~found & (part >= least) & (part >= CONTEXT_LIFT * usual)
        some = others.select(taken[others.row])
        rule.by[taken & _carries_half(some, text, text.of_kind[kind][some.token], total, enough)] = kind
        found |= rule.by == kind
    on = others.select(found[others.row])
    on = on.select(slots(text, on, rule) >= 0)
    keys = _apart(_in_several(on, text, WORD, enough), total, base, enough, 1.0)
    keys[:, N_MIXED:] = -1
    rule.keys[found] = keys[found]
    return found


def _context(
    others: RowFirings, text: NamedText, rule: Rule, total: np.ndarray, which: np.ndarray, enough: np.ndarray
) -> np.ndarray:
    """The features named by the words beside their firings, whose rule is changed to these."""
    own, best = others.total(slots(text, others, rule) >= 0), np.zeros(len(which))
    for by, direction in ((AFTER, -1), (BEFORE, 1)):
        near = text.around(direction)
        base = text.part_of(near)
        keys = _apart(others.by_key(near), total, base, enough, CONTEXT_LIFT)
        tried = Rule(np.full(len(which), by), keys, np.full((len(which), N_LEAD), -1))
        slot = slots(text, others, tried)
        part = np.divide(others.total(slot >= 0), total, out=np.zeros(len(which)), where=total > 0)
        usual = np.where(keys >= 0, base[np.where(enough, 0, 1)[:, None], keys], 0).sum(1)
        taken = which & (part >= CONTEXT_LIFT * usual) & (part > best) & (part * total >= OVER_OWN * own)
        some = taken[others.row]
        taken &= _carries_half(others.select(some), text, slot[some] >= 0, total, enough)
        rule.by[taken], rule.keys[taken], best[taken] = by, keys[taken], part[taken]
    return best > 0


def _distinctive(
    others: RowFirings, text: NamedText, rule: Rule, total: np.ndarray, which: np.ndarray, enough: np.ndarray
) -> None:
    """The rule of mixed features: the words they fire on most, measured against the text."""
    base = text.part_of(text.one_each(text.key[WORD], text.n_keys))
    keys = _apart(_in_several(others, text, WORD, enough), total, base, enough, 1.0)
    most, _ = strongest(others.by_key(text.one_each(text.key[WORD], text.n_keys)), N_WORDS)
    keys = np.where(keys[:, :1] >= 0, keys, most)  # no word is in two documents
    keys[:, N_MIXED:] = -1
    rule.by[which], rule.keys[which] = WORD, keys[which]


def _apart(mass: sparse.csr_matrix, total: np.ndarray, base: np.ndarray, enough: np.ndarray, lift: float) -> np.ndarray:
    """The keys that set each feature's activation apart, as many as carry half, by part times logarithm of lift."""
    row = np.repeat(np.arange(mass.shape[0]), np.diff(mass.indptr))
    part = mass.data / np.maximum(total[row], 1e-30)
    ratio = part / np.maximum(base[np.where(enough, 0, 1)[row], mass.indices], 1e-30)
    score = np.where(ratio >= lift, part * np.log(np.maximum(ratio, 1.0)), 0.0)
    keys = strongest(sparse.csr_matrix((score, mass.indices, mass.indptr), shape=mass.shape), N_WORDS)[0]
    parts = np.zeros(keys.shape)
    for place in range(N_WORDS):
        at = mass.indices == keys[row, place]
        parts[row[at], place] = part[at]
    return np.where(np.cumsum(parts, axis=1) - parts < CARRIED, keys, -1)


def _as_text(text: NamedText, keys: np.ndarray) -> list[list[str]]:
    """The words of keys, in lower case."""
    folded = np.empty(text.n_keys + 1, dtype=object)
    folded[-1] = ""
    for form, key in zip(text.words.forms, text.words.folded.tolist(), strict=True):
        folded[key] = form.casefold()
    return [[word for word in row if word] for row in folded[keys].tolist()]


def _spelt(source: RowFirings, text: NamedText, rule: Rule, kind: np.ndarray) -> list[str]:
    """The names as text: each word in the spelling that carries most. Words that do not fit leave the rule."""
    by_words = rule._replace(by=np.where(np.isin(rule.by, list(OF_KIND)), WORD, rule.by))
    slot = slots(text, source, by_words)
    on, slot = source.select(slot >= 0), slot[slot >= 0]
    form = forms(text, on, by_words, slot)
    n_forms, shape = len(text.words.forms), rule.keys.shape
    of_key = _spelling(on.row * N_WORDS + slot, form, on.value, shape[0] * N_WORDS, n_forms).reshape(shape)
    of_lead = np.full(rule.lead.shape, -1)
    for n in range(N_LEAD):
        led = rule.lead[on.row, n] >= 0
        before = text.words.beside(text.place[on.token[led]], -n - 1)
        of_lead[:, n] = _spelling(on.row[led], before, on.value[led], shape[0], n_forms)
    names = []
    for i, (what, by) in enumerate(zip(kind.tolist(), rule.by.tolist(), strict=True)):
        words = [shown_word(text.words.forms[f]) if f >= 0 else "" for f in of_key[i].tolist()]
        lead = [shown_word(text.words.forms[f]) for f in of_lead[i].tolist()[::-1] if f >= 0]
        name, n_used = name_text(what, BY[by], [word for word in words if word], lead)
        used = [key for key, word in zip(rule.keys[i].tolist(), words, strict=True) if word][:n_used]
        rule.keys[i] = [*used, *[-1] * (N_WORDS - n_used)]
        names.append(name)
    return names


def _spelling(cell: np.ndarray, form: np.ndarray, mass: np.ndarray, n_cells: int, n_forms: int) -> np.ndarray:
    """For each cell the form with the largest mass, -1 for none."""
    found = sparse.coo_matrix((mass, (cell, form)), shape=(n_cells, n_forms)).tocsr()
    return strongest(found, 1)[0][:, 0]
