"""SpecificityPanel: a concept as one writes it, the features that fire for it, and where they are wrong.

The widget is given a Scorer, which asks an index (specificity_scorer.py); views become plain values and bytes in
specificity_views.py. A worker thread answers the latest wish: what is typed meanwhile calls off what is under way, and
nothing queues. The threshold, precision and recall along it, and the histogram are drawn from the activations
themselves in the browser, without Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..arguments import checks_arguments
from ..errors import ConfigError, SaekitError
from ..specificity.concepts import Concept
from ..specificity.result import SpecificityResult
from .shown_picture import in_a_notebook
from .specificity_answers import Answers
from .specificity_request import PanelMessage, Wish
from .specificity_scorer import Scorer
from .specificity_traits import SpecificityTraits

if TYPE_CHECKING:
    from ..index import FeatureIndex

MAX_UNDO = 1000


class SpecificityPanel(SpecificityTraits):
    """A concept to write, the features that fire for it, and the contexts where the chosen one is wrong.

    Made by `score`. Every control is a live trait: `concept`, `query`, `unit`, `by`, `feature`, `threshold`, `marks`.
    `ranked` and `result` are what `rank_features` and `specificity` return for them; they wait until it is there.
    Marks that are made only where one feature is wrong favour that feature: read its hits too.
    """

    bundle = "specificity_panel"
    messages = PanelMessage

    def __init__(self, scorer: Scorer | None = None, **kwargs: Any) -> None:
        self._scorer = scorer
        self._answers = Answers(self, scorer)
        self._base: Concept | None = None
        self._given: dict[str, Concept] = {}
        self._undone: list[list[dict[str, Any]]] = []
        self._following, self._shown = False, False
        concept, query, marks = (kwargs.pop(name, None) for name in ("concept", "query", "marks"))
        super().__init__(**kwargs)
        self.observe(lambda change: self._read(change["new"]), names="query")
        self.observe(lambda change: self._take(change["new"]), names="concept")
        self.observe(lambda _: self._mark_all(), names="marks")
        self.observe(lambda _: self._wish(), names=["unit", "by", "n", "feature"])
        for name, value in (("query", query), ("concept", concept), ("marks", marks)):
            if value is not None:
                setattr(self, name, value)
        self._answers.keep_threshold = "threshold" in kwargs
        self._wish()

    @property
    def ranked(self) -> pd.DataFrame:
        """What `rank_features` returns for `concept`, `unit`, `by` and `n`, p values included. Waits for it."""
        return self._answers.ranked(self._present())

    @property
    def result(self) -> SpecificityResult:
        """What `specificity` returns for `feature`, `concept` and `unit`. Waits for it."""
        self.wait()
        wish = self._present()
        if wish.feature < 0:
            raise ConfigError("no feature is chosen", got=self.error or -1, fix="panel.feature = 3")
        return self._answers.result(wish)

    def mark(self, at: int | tuple[int, int], counts: bool | None, *, unit: str | None = None) -> SpecificityPanel:
        """The panel itself, one place counting (True), not counting (False) or without a mark (None).

        `at` is a flat position or (window, pos); with unit "document", which is that of the panel by default, the
        number of a document.
        """
        unit = self.unit if unit is None else unit
        if isinstance(at, tuple) and self._scorer is not None:
            at = int(at[0]) * self._scorer.index.length + int(at[1])
        kept = [m for m in self.marks if (m["at"], m["unit"]) != (at, unit)]
        before = self.marks
        self.marks = kept if counts is None else [*kept, {"at": at, "unit": unit, "counts": counts}]
        if self.marks != before:
            self._undone = [*self._undone[-MAX_UNDO + 1 :], before]
            self.n_undo = len(self._undone)
        return self

    def undo(self) -> SpecificityPanel:
        """The panel itself, the last mark taken back."""
        if self._undone:
            self.marks = self._undone.pop()
            self.n_undo = len(self._undone)
        return self

    def wait(self) -> SpecificityPanel:
        """The panel itself, once everything that was asked for is there. An interrupt calls it off."""
        self._answers.wait()
        return self

    def stop(self) -> None:
        """Calls off what is being computed; `run` or the next change begins again."""
        self._answers.stop()

    def run(self) -> SpecificityPanel:
        """The panel itself, computing again what was called off."""
        self._answers.again()
        return self

    def to_frame(self) -> pd.DataFrame:
        """The ranking."""
        return self.ranked

    def page_state(self) -> dict[str, Any]:
        if not self._shown:
            self.wait()
        return {**super().page_state(), "live": False, "running": False, "status": "", "progress": -1.0, "n_undo": 0}

    def text(self) -> str:
        """The concept, the ranking and the chosen feature in a sentence; as far as it is there, once it is shown."""
        if not self._shown:
            self.wait()
        return self._answers.text()

    def static_picture(self) -> str:
        from .specificity_picture import specificity_picture

        return specificity_picture(self, self._answers.sentence())

    def at_rest(self) -> bool:
        return not self.running

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        with self._as_it_is():
            return super()._repr_mimebundle_(**kwargs)

    def _ipython_display_(self, **kwargs: Any) -> None:
        if not in_a_notebook():
            self.wait()
        with self._as_it_is():
            super()._ipython_display_(**kwargs)

    @contextmanager
    def _as_it_is(self) -> Iterator[None]:
        """Without waiting: a notebook shows it at once, and fills in what is found."""
        before, self._shown = self._shown, True
        try:
            yield
        finally:
            self._shown = before

    def receive(self, message: Mapping[str, Any]) -> None:
        kind = message["kind"]
        if kind == "mark":
            self.mark(message["at"], message["counts"], unit=message["unit"])
        elif kind == "contexts":
            self._answers.list_again()
        else:
            {"undo": self.undo, "stop": self.stop, "run": self.run}[kind]()

    def _check_places(self, marks: list[dict[str, Any]]) -> None:
        if self._scorer is not None:
            self._scorer.marked(Concept(name="marks", kind="examples"), marks)

    # ---- one value follows the other ------------------------------------------------------------------------------

    def _read(self, query: str) -> None:
        """The concept of what is written; what cannot be read leaves the last one."""
        if self._following:
            return
        try:
            written = Concept.parse(query, given=self._given) if query.strip() else None
        except SaekitError as e:
            self.query_error = e.what if not e.fix else f"{e.what}. {e.fix}"
            return
        self.query_error = ""
        if written is None or self._base is None or written.written != self._base.written:
            self._base = written
        self._mark_all()

    def _take(self, concept: Concept | None) -> None:
        """A concept that was set in Python, as it is written, and its marks."""
        if self._following:
            return
        self._follow(lambda: self._written(concept))
        self._undone, self.n_undo, self.query_error = [], 0, ""
        self._wish()

    def _written(self, concept: Concept | None) -> None:
        marks = self._scorer.placed(concept) if self._scorer is not None and concept is not None else []
        self._base = None if concept is None else concept.unmarked
        for inner in [] if self._base is None else _given_parts(self._base):
            self._given[inner.name] = inner
        self.query = "" if self._base is None else self._base.written
        self.marks = marks

    def _mark_all(self) -> None:
        """The concept of what is written and marked."""
        if self._following:
            return
        base, scorer = self._base, self._scorer
        found = scorer.marked(base, self.marks) if base is not None and scorer is not None else base
        self._follow(lambda: self.set_trait("concept", found))
        self._wish()

    def _follow(self, change: Any) -> None:
        self._following = True
        try:
            change()
        finally:
            self._following = False

    def _present(self) -> Wish:
        return Wish(base=self._base, concept=self.concept, unit=self.unit, by=self.by, n=self.n, feature=self.feature)

    def _wish(self) -> None:
        self._answers.want(self._present())


def _given_parts(concept: Concept) -> list[Concept]:
    """The parts that cannot be written: marked ones and mere examples."""
    own = [concept] if concept.kind == "examples" else []
    return own + [q for p in concept.parts for q in ([p] if p.marks else _given_parts(p))]


@checks_arguments
def score(index: FeatureIndex, concept: Concept | None = None, **traits: Any) -> SpecificityPanel:
    """A SpecificityPanel over `index`: which features fire for a concept and for nothing else, and where they err.

    `concept` is None for one that is written in the panel. Further keywords set traits: query (the concept as it is
    written), unit, by, n, feature, threshold, marks. Raises MismatchError for marks in documents of another index.

    >>> index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    >>> panel = sk.score(index, query="bridge or golden gate", n=3)
    >>> panel.concept.name, len(panel.ranked), panel.result.feature == panel.feature
    ('bridge or golden gate', 3, True)
    """
    scorer = Scorer(index)
    return SpecificityPanel(
        scorer,
        n_features=index.d_sae,
        labels=scorer.labels,
        corpus={"name": index.corpus_name, "n_tokens": index.n_tokens, "n_documents": index.n_documents},
        concept=concept,
        **traits,
    )
