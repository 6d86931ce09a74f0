"""FeatureBrowser: a table over the whole index with sorting, filters and pages, opening feature cards.

The columns go to the browser once, as bytes; what is shown follows from a few small traits by functions that exist
twice, here (`select`) and in widgets/src/shared/table.ts, and are held together by widgets/tests/cases.json. The widget
is given columns and a function from a feature number to its record; only `explore` uses an index.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import traitlets as t

from ..arguments import checks_arguments
from ..errors import ConfigError, MismatchError, check_count, check_feature, check_number
from .base import Widget, check_choice, pack, pack_strings, shown, validates
from .feature_card import Load, Names, Namings, embedded, load_card, naming

if TYPE_CHECKING:
    from ..index import FeatureIndex
    from ..index.records import FeatureRecord
    from ..models import LanguageModel
    from ..sae import SAE

COLUMNS = ("feature", "name", "density", "max", "n_firings", "promoted", "example")
BEGIN, END = "\x02", "\x03"  # around the firing token in an example
N_PROMOTED = 5
MAX_ROWS = 1000
"""Rows of a page at most: all of them are in the document."""
MAX_FILTER = 500
"""Characters of a filter at most: every word is looked for in every row. The front end's is in browser/filters.ts."""
N_PAGE_CARDS = 25  # of the rows shown first, on an offline page
MIXED = "mixed:"  # begins names that say no more than what occurs; the front end's is in shared/table.ts
BEFORE, AFTER = 26, 60  # characters of an example on either side of its firing token


class FeatureBrowser(Widget):
    """A table of all features. What is sorted, filtered, turned to and opened in the browser are live traits.

    Made by `explore`. `rows` is the visible page as a DataFrame and `record` the opened feature.
    """

    bundle = "feature_browser"

    columns = t.Dict(help="The columns as bytes: numbers by little-endian values, texts joined by U+001F.").tag(
        sync=True
    )
    sort = t.Unicode("density", help="Column that orders the rows: one of COLUMNS.").tag(sync=True, browser=True)
    descending = t.Bool(True, help="Largest or last first.").tag(sync=True, browser=True)
    filter = t.Unicode("", help="Words that must all occur: number, name, promoted tokens or context.").tag(
        sync=True, browser=True
    )
    min_density = t.Float(None, allow_none=True, help="Lowest density shown, a fraction of tokens.").tag(
        sync=True, browser=True
    )
    max_density = t.Float(None, allow_none=True, help="Highest density shown, a fraction of tokens.").tag(
        sync=True, browser=True
    )
    hide_silent = t.Bool(False, help="Leave out features that never fired.").tag(sync=True, browser=True)
    page = t.Int(0, help="Visible page, from 0.").tag(sync=True, browser=True)
    page_size = t.Int(10, help="Rows on a page, at most MAX_ROWS.").tag(sync=True, browser=True)
    feature = t.Int(-1, help="Feature whose card is open, -1 for none.").tag(sync=True, browser=True)
    card = t.Dict(help="The open card as plain values; see card_data.").tag(sync=True)
    cards = t.Dict(help="Cards carried along for pages without a kernel, by feature number as text.").tag(sync=True)
    error = t.Unicode("", help="What went wrong while loading a card, in words.").tag(sync=True)
    live = t.Bool(True, help="Whether Python is there to answer; False on an offline page.").tag(sync=True)

    def __init__(
        self,
        features: pd.DataFrame | None = None,
        load: Load | None = None,
        *,
        names: Names | None = None,
        naming: Namings | None = None,
        **kwargs: Any,
    ) -> None:
        """`features` holds the columns density, max, n_firings, promoted and example, in order of feature number.

        A column `name` may be among them.
        """
        self._load, self._names, self._naming = load, names, naming
        self._frame = _normal(features)
        self._order_of: tuple[Any, ...] | None = None
        self._order = np.zeros(0, np.int64)
        self.record: FeatureRecord | None = None
        super().__init__(columns=_binary(self._frame), **kwargs)
        self.observe(lambda change: self._show(change["new"]), names="feature")
        self._show(self.feature)

    @validates("feature")
    def _feature_exists(self, value: Any) -> int:
        return -1 if value == -1 else check_feature(value, len(self._frame))

    @validates("sort")
    def _column_exists(self, value: Any) -> str:
        return check_choice("column to sort by", value, COLUMNS)

    @validates("filter")
    def _filter_is_short(self, value: Any) -> str:
        return check_filter(value)

    @validates("min_density", "max_density")
    def _density_is_finite(self, value: Any) -> float | None:
        return None if value is None else check_number("the density", value)

    @validates("page_size")
    def _some_rows(self, value: Any) -> int:
        return check_count("page_size", value, most=MAX_ROWS)

    @validates("page")
    def _page_exists(self, value: Any) -> int:
        return check_count("page", value, least=0)

    @t.observe("filter", "min_density", "max_density", "hide_silent")
    def _to_first_page(self, _: Any) -> None:
        self.page = 0

    @property
    def matches(self) -> np.ndarray[Any, Any]:
        """Numbers of all features that pass the filters, in order."""
        query = (self.sort, self.descending, self.filter, self.min_density, self.max_density, self.hide_silent)
        if query != self._order_of:
            self._order, self._order_of = select(self._frame, *query), query
        return self._order

    @property
    def n_pages(self) -> int:
        return max(1, -(-len(self.matches) // self.page_size))

    @property
    def rows(self) -> pd.DataFrame:
        """The visible page: one row per feature, indexed by its number."""
        page = min(self.page, self.n_pages - 1)
        here = self.matches[page * self.page_size : (page + 1) * self.page_size]
        frame = self._frame.iloc[here].copy()
        frame["example"] = frame["example"].str.replace(BEGIN, "[").str.replace(END, "]")
        return frame

    def to_frame(self) -> pd.DataFrame:
        """All matching rows, in order."""
        return self._frame.iloc[self.matches].copy()

    def embed(self, features: Iterable[int]) -> FeatureBrowser:
        """The widget itself, now carrying the cards of `features` for pages without a kernel."""
        self.cards = {**self.cards, **embedded(self._load, self._names, self._naming, features, len(self._frame))}
        return self

    def page_state(self) -> dict[str, Any]:
        """The state with the cards of the rows that are shown first, so that a click opens them."""
        state = {**super().page_state(), "live": False}
        if self._load is not None:
            first = [int(i) for i in self.rows.index[:N_PAGE_CARDS] if str(int(i)) not in self.cards]
            state["cards"] = {**self.cards, **embedded(self._load, self._names, self._naming, first, len(self._frame))}
        return state

    def text(self) -> str:
        """The visible page as a table, and the open feature's card."""
        arrow = "descending" if self.descending else "ascending"
        page = min(self.page, self.n_pages - 1) + 1
        parts = [
            f"FeatureBrowser: {len(self.matches)} of {len(self._frame)} features, by {self.sort} {arrow}, "
            f"page {page} of {self.n_pages}"
        ]
        if len(self.matches):
            rows = self.rows
            parts.append(rows.to_string(max_colwidth=48, float_format=lambda v: f"{v:.4g}"))
        if self.record is not None:
            parts.append(str(self.record))
        if self.error:
            parts.append(self.error)
        return "\n".join(parts)

    def static_picture(self) -> str:
        from .pictures import browser_picture, card_picture

        about, _, _ = self.text().partition("\n")
        rows = self.rows
        names = self._names([int(i) for i in rows.index]) if self._names is not None and len(rows) else {}
        opened = card_picture(self.card) if self.card else None
        return browser_picture(rows, about.removeprefix("FeatureBrowser: "), names, opened)

    def _show(self, feature: int) -> None:
        if self._load is None or feature < 0:
            self.record, self.card, self.error = None, {}, ""
            return
        self.record, self.card, self.error = load_card(self._load, self._names, self._naming, feature)


def check_filter(filter: str) -> str:
    """`filter` itself; ConfigError when it is longer than MAX_FILTER characters."""
    if len(filter) > MAX_FILTER:
        raise ConfigError(
            "the filter is too long",
            got=f"{len(filter):,} characters: {filter[:60]}...",
            accepted=f"at most {MAX_FILTER} characters",
            fix="look for a few words; explore(...).to_frame() is a table to search in",
        )
    return filter


def select(
    frame: pd.DataFrame,
    sort: str,
    descending: bool,
    filter: str,
    min_density: float | None,
    max_density: float | None,
    hide_silent: bool,
) -> np.ndarray[Any, Any]:
    """Numbers of the features that pass the filters, ordered; equal values by number, missing ones last.

    With a text filter, features that it finds by number or name stand before those that it finds in other texts: first
    those whose number or name it is, then those whose name has it, last of these the mixed ones.
    """
    density = frame["density"].to_numpy()
    keep = np.ones(len(frame), bool)
    if hide_silent:
        keep &= frame["n_firings"].to_numpy() > 0
    if min_density is not None:
        keep &= density >= np.float32(min_density)
    if max_density is not None:
        keep &= density <= np.float32(max_density)
    words = filter.lower().split()
    if words:
        example = frame["example"].str.replace(f"[{BEGIN}{END}]", "", regex=True)
        texts = (frame["name"] + "\n" + frame["promoted"] + "\n" + example).str.lower().to_numpy()
        for i in np.flatnonzero(keep):
            keep[i] = all(word == str(i) or word in texts[i] for word in words)
    order = _ordered(frame, np.flatnonzero(keep), sort, descending)
    if not words:
        return order
    names = frame["name"].str.lower().to_numpy()
    ranks = np.array([_name_rank(int(i), names[i], words) for i in order], np.int8)
    return order[np.argsort(ranks, kind="stable")]


def _name_rank(feature: int, name: str, words: list[str]) -> int:
    """How well words name a feature: 0 its number or name, 1 in its name, 2 in a mixed name, 3 not."""
    if " ".join(words) == name or words == [str(feature)]:
        return 0
    if not all(word == str(feature) or word in name for word in words):
        return 3
    return 2 if name.startswith(MIXED) else 1


def _ordered(frame: pd.DataFrame, kept: np.ndarray[Any, Any], sort: str, descending: bool) -> np.ndarray[Any, Any]:
    """The features `kept`, in ascending order of number, sorted by a column."""
    if sort == "feature":
        return kept[::-1] if descending else kept
    if sort in ("name", "promoted", "example"):  # texts compare by UTF-16 code units, as in a browser
        words_of = frame[sort].to_numpy()
        sign = -1 if descending else 1
        some = sorted(
            ((str(words_of[i]).encode("utf-16-be", "surrogatepass"), sign * int(i)) for i in kept if words_of[i]),
            reverse=descending,
        )
        return np.array([*(abs(i) for _, i in some), *(int(i) for i in kept if not words_of[i])], np.int64)
    values = frame[sort].to_numpy()[kept].astype(np.float64)
    return kept[np.lexsort((kept, -values if descending else values))]  # NaN sorts last


def _normal(features: pd.DataFrame | None) -> pd.DataFrame:
    """The columns with their types; promoted token lists joined with two spaces."""
    if features is None:
        features = pd.DataFrame(columns=COLUMNS[1:])
    needed = [name for name in COLUMNS[1:] if name != "name"]
    missing = [name for name in needed if name not in features]
    if missing:
        raise MismatchError("the table lacks columns", got=list(features), accepted=", ".join(needed))
    names = list(features["name"]) if "name" in features else [""] * len(features)
    promoted = [
        p if isinstance(p, str) else "  ".join(shown(token) for token in p[:N_PROMOTED]) for p in features["promoted"]
    ]
    frame = pd.DataFrame(
        {
            "name": pd.Series(names, dtype=object).to_numpy(),
            "density": features["density"].to_numpy(np.float32),
            "max": features["max"].to_numpy(np.float32),
            "n_firings": features["n_firings"].to_numpy(np.int32),
            "promoted": pd.Series(promoted, dtype=object).to_numpy(),
            "example": pd.Series(list(features["example"]), dtype=object).to_numpy(),
        }
    )
    frame.index.name = "feature"
    return frame


def _binary(frame: pd.DataFrame) -> dict[str, bytes]:
    numbers = {"density": "float32", "max": "float32", "n_firings": "int32"}
    columns = {name: pack(frame[name], dtype) for name, dtype in numbers.items()}
    return columns | {name: pack_strings(frame[name]) for name in ("name", "promoted", "example")}


def example_text(tokens: list[str], centre: int) -> str:
    """A context on one line with its firing token marked, cut to fit a table row."""
    from ..index.records import character_token

    centre = character_token(tokens, centre)
    before, after = "".join(map(shown, tokens[:centre])), "".join(map(shown, tokens[centre + 1 :]))
    cut = "…" if len(before) > BEFORE else ""
    return f"{cut}{before[-BEFORE:]}{BEGIN}{shown(tokens[centre])}{END}{after[:AFTER]}"


def examples(index: FeatureIndex, before: int = 8, after: int = 14) -> list[str]:
    """For each feature, the tokens around its strongest firing on one line; "" for a silent feature."""
    strongest = index.strongest()
    window, pos = strongest["window"].to_numpy(np.int64), strongest["pos"].to_numpy(np.int64)
    start = np.maximum(pos - before, 0)
    n = np.minimum(pos + after + 1, index.windows.lengths.numpy()[window]) - start
    within = np.arange(int(n.sum())) - np.repeat(np.cumsum(n) - n, n)
    tokens = index.token_strings(np.repeat(window * index.length + start, n) + within)
    out, at = [""] * index.d_sae, 0
    for feature, length, centre in zip(strongest.index.tolist(), n.tolist(), (pos - start).tolist(), strict=True):
        out[feature] = example_text(tokens[at : at + length], centre)
        at += length
    return out


@checks_arguments
def explore(
    index: FeatureIndex, model: LanguageModel | None = None, sae: SAE | None = None, **traits: Any
) -> FeatureBrowser:
    """A FeatureBrowser over all features of `index`, which opens their cards.

    `model` and `sae` are checked against the index when they are given (MismatchError). Further keywords set traits of
    the browser: sort, descending, filter, min_density, max_density, hide_silent, page, page_size, feature.

    >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    >>> browser = sk.explore(index, sort="max", page_size=3)
    >>> len(browser.rows), browser.n_pages
    (3, 22)
    """
    from .token_highlight import names_of

    for name, given, expected in (("model", model, index.model_fingerprint), ("sae", sae, index.sae_fingerprint)):
        if given is not None and given.fingerprint != expected:
            raise MismatchError(
                f"this index was built with another {name}",
                got=given.fingerprint,
                accepted=expected,
                fix=f"pass the {name} the index was built with, or none",
            )
    features = index.features[["density", "max", "n_firings", "promoted"]]
    features = features.assign(name=index.names["name"], example=examples(index))
    return FeatureBrowser(
        features, index.feature, names=lambda i: names_of(index, i), naming=lambda i: naming(index, i), **traits
    )
