"""The thread behind a specificity panel: it answers the latest wish, and drops what is no longer wanted.

A wish is answered in stages, each of which is shown at once: what the concept holds for, the ranking, the scores and
contexts of the feature, the p values after the search, and the whole result. Between blocks of features the thread
looks whether something else is wanted: another concept calls off what is under way; another feature is answered in
between, while the p values go on.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import ConfigError, SaekitError
from ..specificity.ranking import with_test
from ..specificity.result import SpecificityResult
from .specificity_request import Wish
from .specificity_views import measures_of, rows_of
from .worker import Worker

if TYPE_CHECKING:
    from .specificity_panel import SpecificityPanel
    from .specificity_scorer import Scorer


class SupersededError(Exception):
    """Something else is wanted by now."""


class Answers:
    """What is known for the wishes of one panel, found in a thread of its own."""

    def __init__(self, panel: SpecificityPanel, scorer: Scorer | None) -> None:
        self._panel, self._scorer = panel, scorer
        self._worker, self._lock = Worker(), threading.RLock()
        self._wish: Wish | None = None
        self._busy, self._prepared, self._stopped = False, False, False
        self._done: dict[str, Any] = {}
        """What each stage was last answered for."""
        self._asked = 0
        self._table: pd.DataFrame | None = None
        self._result: SpecificityResult | None = None
        self._thread: threading.Thread | None = None
        self._picked = -1
        """The feature that the ranking, not a person, chose."""
        self.keep_threshold = False

    def want(self, wish: Wish) -> None:
        """Begins with a wish, unless it is the one that is being answered."""
        if self._scorer is None:
            return
        wish = replace(wish, asked=self._asked)
        with self._lock:
            if wish == self._wish and not self._stopped:
                return
            self._wish, self._stopped = wish, False
            start, self._busy = not self._busy, True
        if start:
            self._panel.running = True
            self._worker.start(self._work, wait=False)

    def again(self) -> None:
        """Begins again with what was called off."""
        wish = self._wish
        if wish is not None and self._stopped:
            self.want(wish)

    def list_again(self) -> None:
        """Lists the contexts anew."""
        self._asked += 1
        if self._wish is not None:
            self.want(self._wish)

    def stop(self) -> None:
        """Calls off what is under way."""
        self._stopped = self._busy

    def wait(self) -> None:
        """Returns once nothing is under way."""
        try:
            while self._busy and threading.current_thread() is not self._thread:
                self._worker.wait()
        except KeyboardInterrupt:
            self.stop()
            raise

    def ranked(self, wish: Wish) -> pd.DataFrame:
        """The ranking with its p values, found here where the thread did not."""
        self.wait()
        if wish.concept is None or self._scorer is None:
            raise ConfigError("no concept is written", got=wish.concept, fix='panel.query = "bridge or gate"')
        if self._done.get("test") != wish.ranking or self._table is None:
            table = self._scorer.ranked(wish.concept, wish.unit, wish.by, wish.n, lambda: None)
            return with_test(table, self._scorer.test(wish.concept, wish.unit, lambda _: None))
        table = self._table.copy()
        table.attrs = dict(self._table.attrs)
        return table

    def result(self, wish: Wish) -> SpecificityResult:
        """The result for a wish, found here where the thread did not."""
        self.wait()
        if wish.concept is None or self._scorer is None:
            raise ConfigError("no concept is written", got=wish.concept, fix='panel.query = "bridge or gate"')
        if self._done.get("result") != wish.scored or self._result is None:
            return self._scorer.result(wish.feature, wish.concept, wish.unit)
        return self._result

    def text(self) -> str:
        """What is known, as text."""
        panel = self._panel
        if panel.concept is None:
            written = f": {panel.query}\n  {panel.query_error}" if panel.query_error else ""
            return f"SpecificityPanel without a concept{written}"
        lines = [f"SpecificityPanel: {panel.concept.name!r}, by {panel.unit}"]
        found = panel.preview
        if found:
            lines.append(f"  {found['n_tokens']:,} tokens in {found['n_documents']:,} documents")
        lines += [f"  {text}" for text in (panel.query_error, panel.error, panel.status) if text]
        if self._table is not None and self._done.get("ranking") == panel._present().ranking:
            wanted = [f"choose_{panel.by}", "average_precision", "auroc", "precision", "recall", "n_firings", "p_value"]
            shown = self._table[[c for c in wanted if c in self._table]].head(10)
            few = "  no feature fires often enough to be ranked"
            lines.append(shown.to_string(float_format=lambda v: f"{v:.3f}") if len(shown) else few)
        if sentence := self.sentence():
            lines.append(f"  feature {panel.feature}: {sentence}")
        return "\n".join(lines)

    def sentence(self) -> str:
        """The result of the chosen feature in a sentence; empty where it is not there."""
        result, of = self._result, self._done.get("result")
        return result.summary if result is not None and of == self._panel._present().scored else ""

    # ---- the worker thread ----------------------------------------------------------------------------------------

    def _work(self) -> None:
        self._thread = threading.current_thread()
        while True:
            last = self._answer_all()
            try:
                self._panel.update_picture()  # before the end: a wish meanwhile does not wait for the drawing
            except Exception as e:  # a connection that is closed must not leave the panel busy for ever
                self._panel.error = f"{type(e).__name__}: {e}"
            with self._lock:
                if self._wish is last or self._stopped or self._worker.stopped():
                    self._busy = False
                    return
                self._panel.running = True

    def _answer_all(self) -> Wish | None:
        """The wish that was answered last, once nothing else is wanted or it was called off."""
        wish: Wish | None = None
        while True:
            with self._lock:
                self._stopped = self._stopped or self._worker.stopped()
                if self._wish is wish or self._stopped:
                    self._panel.status = "Stopped." if self._stopped else ""
                    self._panel.progress, self._panel.running = -1.0, False
                    return self._wish
                wish = self._wish
            assert wish is not None
            try:
                self._answer(wish)
            except SupersededError:
                wish = None
            except BaseException as e:  # in a thread: whatever it is must be shown
                self._panel.error = str(e) if isinstance(e, SaekitError) else f"{type(e).__name__}: {e}"

    def _answer(self, wish: Wish) -> None:
        panel, scorer, concept = self._panel, self._scorer, wish.concept
        assert scorer is not None
        self._check(wish)
        panel.error = ""
        if concept is None:
            self._forget()
            if not self._prepared:
                self._say("Reading the index…")
                scorer.prepare()
            self._prepared = True
            return
        if self._done.get("preview") != (concept, wish.unit):
            self._say("Looking where it is…")
            panel.preview = scorer.preview(concept, wish.unit)
            self._done["preview"] = (concept, wish.unit)
        if panel.preview["nothing"]:
            self._forget(preview=False)
            return
        if self._done.get("ranking") != wish.ranking:
            self._say(f"Ranking {panel.n_features:,} features…")
            table = scorer.ranked(concept, wish.unit, wish.by, wish.n, lambda: self._check(wish))
            self._show_table(table, wish)
        wish = self._choose(wish)
        if wish.feature >= 0:
            self._show_feature(wish)
        self._name(wish)
        if self._done.get("test") != wish.ranking:
            self._say("p values after the search…", 0.0)
            test = scorer.test(concept, wish.unit, lambda fraction: self._look(wish, fraction))
            assert self._table is not None
            self._show_table(with_test(self._table, test), wish, tested=True)
        with self._lock:
            wish = self._wish if self._wish is not None and self._wish.ranking == wish.ranking else wish
        self._check(wish)
        if wish.feature >= 0:
            self._show_feature(wish)
            self._name(wish)
            if self._done.get("result") != wish.scored:
                self._say(f"Intervals of feature {wish.feature}…")
                self._result = scorer.result(wish.feature, concept, wish.unit)
                panel.measures = measures_of(self._result)
                self._done["result"] = wish.scored

    def _say(self, status: str, progress: float = -1.0) -> None:
        self._panel.status, self._panel.progress = status, progress

    def _check(self, wish: Wish) -> None:
        """Raises where another ranking is wanted, or none."""
        now = self._wish
        if self._stopped or self._worker.stopped() or now is None or now.ranking != wish.ranking:
            raise SupersededError

    def _look(self, wish: Wish, fraction: float) -> None:
        """In the middle of the test: whether it is still wanted, and whether another feature is."""
        self._check(wish)
        now = self._wish
        if now is not None and now.feature >= 0:
            self._show_feature(now)
        self._say("p values after the search…", round(fraction, 3))

    def _choose(self, wish: Wish) -> Wish:
        """The wish with a feature: the one there is, or the first of the ranking for another concept.

        A person's choice stays for another concept where it is in that ranking too.
        """
        assert self._table is not None
        best = int(self._table.index[0]) if len(self._table) else -1
        now, before = (wish.base,), self._done.get("base")
        chosen = wish.feature >= 0 and wish.feature != self._picked
        stays = wish.feature >= 0 and before == now
        stays = stays or (chosen and (before is None or wish.feature in self._table.index))
        if not stays and best >= 0 and wish.feature != best:
            with self._lock:
                if self._wish is not wish:
                    raise SupersededError
                self._wish = wish = replace(wish, feature=best)
            self._picked = self._panel.feature = best
        self._done["base"] = now
        return wish

    def _show_table(self, table: pd.DataFrame, wish: Wish, tested: bool = False) -> None:
        panel, attrs = self._panel, table.attrs
        self._table = table
        with panel.hold_sync():
            panel.rows = rows_of(table, wish.by)
            panel.ranking = {
                "concept": "" if wish.concept is None else wish.concept.name,
                "by": wish.by,
                "unit": wish.unit,
                "documents": attrs["documents"],
                "few": attrs["few"],
                "tested": tested,
                "p_reason": attrs.get("p_reason", ""),
                "n_features": attrs.get("n_features_searched"),
                "n_permutations": attrs.get("n_permutations"),
            }
        self._done["ranking"] = wish.ranking
        self._done["test"] = wish.ranking if tested else None

    def _name(self, wish: Wish) -> None:
        """Names of the ranked features and of the chosen one, where some are not known yet."""
        assert self._table is not None and self._scorer is not None
        shown = [int(f) for f in self._table.index] + [wish.feature] * (wish.feature >= 0)
        if not {str(f) for f in shown} <= set(self._panel.names):
            self._panel.names = self._scorer.names(list(dict.fromkeys(shown)))

    def _show_feature(self, wish: Wish) -> None:
        """Scores and contexts of the feature, unless they are there."""
        panel, scorer = self._panel, self._scorer
        assert scorer is not None and wish.concept is not None
        if self._done.get("scores") == wish.scored and self._done.get("contexts") == wish.listed:
            return
        scored = scorer.scored(wish.feature, wish.concept, wish.unit)
        anew = self._done.get("contexts") != wish.listed
        other = self._done.get("threshold") != (wish.base, wish.unit, wish.feature)
        contexts = scorer.contexts(scored) if anew else None
        with panel.hold_sync():
            panel.scores = scored.scores
            if contexts is not None:
                panel.contexts = contexts
            if other and not self.keep_threshold:
                panel.threshold = scored.threshold
            if other:
                panel.measures = {}
        self.keep_threshold = False
        self._done |= {
            "scores": wish.scored,
            "contexts": wish.listed,
            "threshold": (wish.base, wish.unit, wish.feature),
        }

    def _forget(self, preview: bool = True) -> None:
        """Nothing to show: no concept, or one that is nowhere."""
        panel = self._panel
        self._table, self._result, self._done = (
            None,
            None,
            {k: v for k, v in self._done.items() if k == "preview" and not preview},
        )
        with panel.hold_sync():
            panel.rows, panel.ranking, panel.scores, panel.contexts, panel.measures = [], {}, {}, [], {}
            if preview:
                panel.preview = {}
