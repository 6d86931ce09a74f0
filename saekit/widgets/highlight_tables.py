"""What a token highlight holds, as tables: the features that stand out, those of a token, the tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .highlight_standouts import FeatureStatistics, Standouts
from .highlight_traits import HighlightTraits


class HighlightTables(HighlightTraits):
    """The traits of a TokenHighlight, and what is computed from them."""

    @property
    def standouts(self) -> pd.DataFrame:
        """The features that stand out in the text, most first.

        feature; standout, in bits: relative activation times rarity, summed over the tokens on which the feature's is
        the largest, n_tokens in number, less the fraction of its firings that its density leads one to expect;
        activation and relative, where the activation is largest, and that token; density; name. Features that
        `min_density`, `max_density` or `filter` set aside are left out, and so are activations below `min_relative`.
        """
        found = self._standouts()
        rows, statistics = found.order(), found.statistics
        counted = np.flatnonzero(found.standout > 0)
        top = np.zeros(len(statistics.feature))
        np.maximum.at(top, found.at[counted], found.value[counted])
        largest = np.zeros(len(top), int)
        equal = counted[found.value[counted] == top[found.at[counted]]]
        largest[found.at[equal[::-1]]] = equal[::-1]  # the last one written is the first of the text
        n_tokens = np.bincount(found.at[found.best], minlength=len(top))
        best = largest[rows]
        return pd.DataFrame(
            {
                "feature": statistics.feature[rows],
                "standout": found.totals[rows],
                "activation": found.value[best],
                "relative": found.relative[best],
                "token": found.token[best],
                "n_tokens": n_tokens[rows],
                "density": statistics.density[rows].astype(float),
                "name": self._names(statistics.feature[rows]),
            }
        )

    @property
    def set_aside(self) -> pd.DataFrame:
        """The features that fire but are denser than `max_density` or rarer than `min_density`: feature, density, name.

        Densest first. Of a density counted in the text alone, the lower end of its 95 % interval decides.
        """
        statistics = self._statistics()
        rows = np.flatnonzero(~self._density_kept(statistics))
        rows = rows[np.lexsort((rows, -statistics.density[rows]))]
        feature = statistics.feature[rows]
        return pd.DataFrame(
            {"feature": feature, "density": statistics.density[rows].astype(float), "name": self._names(feature)}
        )

    @property
    def shown_features(self) -> list[int]:
        """The features that colour the text, most outstanding first; none where the strongest of any does."""
        if self.colour_by == "standout":
            return [int(i) for i in self.standouts["feature"].head(self.n_features_shown)]
        return [] if self.feature is None else [self.feature]

    @property
    def selected_token(self) -> str | None:
        """The token picked, None when none is."""
        return self.tokens[self.selected] if self.selected >= 0 else None

    @property
    def strongest(self) -> pd.DataFrame:
        """The features on the selected token, strongest first: feature, activation (raw), relative, density, name.

        Empty when no token is selected or nothing fires there.
        """
        feature, value = self.at(self.selected) if self.selected >= 0 else self.at(len(self.tokens))
        order = np.lexsort((feature, -value))
        feature, value, statistics = feature[order], value[order], self._statistics()
        rows = np.searchsorted(statistics.feature, feature)
        maximum = statistics.maximum[rows]
        relative = np.divide(value, maximum, out=np.zeros(len(value), np.float32), where=maximum > 0).clip(0.0, 1.0)
        return pd.DataFrame(
            {
                "feature": feature,
                "activation": value.astype(float),
                "relative": relative.astype(float),
                "density": statistics.density[rows].astype(float),
                "name": self._names(feature),
            }
        )

    def at(self, token: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Features that fire on a token, and their activations, in ascending order of feature."""
        start, feature, value = self._arrays()
        if not 0 <= token < len(start) - 1:
            return feature[:0], value[:0]
        here = slice(int(start[token]), int(start[token + 1]))
        return feature[here], value[here]

    def values(self, feature: int | None = None) -> np.ndarray[Any, Any]:
        """One activation per token: of `feature`, or of each token's strongest feature."""
        start, features, value = self._arrays()
        out = np.zeros(len(self.tokens), np.float32)
        row = np.repeat(np.arange(len(out)), np.diff(start)) if len(start) > 1 else np.zeros(0, int)
        keep = slice(None) if feature is None else features == feature
        np.maximum.at(out, row[keep], value[keep])
        return out

    def to_frame(self) -> pd.DataFrame:
        """One row per token: token, feature, activation, relative, strongest, excluded.

        feature is the one that colours the token (-1: none), activation and relative are its, the latter as a fraction
        of its maximum (see `explanation`); strongest is the feature with the largest raw activation (-1: none).
        """
        found, n = self._standouts(everything=self.colour_by != "standout"), len(self.tokens)
        strongest = np.full(n, -1)
        top = np.zeros(n)
        np.maximum.at(top, found.token, found.value)
        equal = np.flatnonzero((found.value == top[found.token]) & (found.value > 0))[::-1]
        strongest[found.token[equal]] = equal
        if self.colour_by == "standout":
            best = found.of_tokens(found.order()[: self.n_features_shown], n)
        elif self.feature is None:
            best = strongest
        else:
            best = np.full(n, -1)
            own = np.flatnonzero(found.statistics.feature[found.at] == self.feature)
            best[found.token[own]] = own

        def of(values: np.ndarray[Any, Any], which: np.ndarray[Any, Any], none: float) -> np.ndarray[Any, Any]:
            return np.where(which >= 0, values[which] if len(values) else none, none)

        features = found.statistics.feature[found.at]
        return pd.DataFrame(
            {
                "token": pd.Series(self.tokens, dtype=object),
                "feature": of(features, best, -1),
                "activation": of(found.value, best, 0.0),
                "relative": of(found.relative, best, 0.0),
                "strongest": of(features, strongest, -1),
                "excluded": pd.Series(self.excluded, dtype=object),
            }
        )

    def _statistics(self) -> FeatureStatistics:
        return FeatureStatistics.unpacked(self.statistics)

    def _density_kept(self, statistics: FeatureStatistics) -> np.ndarray[Any, Any]:
        least = -np.log2(max(self.max_density, 1e-12))
        return (statistics.bits >= np.float32(least)) & (statistics.density >= np.float32(self.min_density))

    def _standouts(self, everything: bool = False) -> Standouts:
        """All activations; unless `everything` is wanted, those that the filters set aside count nothing."""
        statistics = self._statistics()
        keep = np.ones(len(statistics.feature), bool) if everything else self._density_kept(statistics)
        words = [] if everything else self.filter.lower().split()
        if words:
            for row in np.flatnonzero(keep):
                number = str(statistics.feature[row])
                name = self.names.get(number, "").lower()
                keep[row] = all(word == number or word in name for word in words)
        least = 0.0 if everything else self.min_relative
        return Standouts.of(self._arrays(), statistics, keep, least, self.excluded.count(""))

    def _names(self, features: np.ndarray[Any, Any]) -> pd.Series:
        return pd.Series([self.names.get(str(i), "") for i in features], dtype=object)

    def _arrays(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        start = np.frombuffer(self.acts.get("start", b""), "<i4")
        feature = np.frombuffer(self.acts.get("feature", b""), "<i4")
        return start, feature, np.frombuffer(self.acts.get("value", b""), "<f4")
