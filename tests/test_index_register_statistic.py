"""A statistic of one's own: registered in one place, it is in every index built from then on."""

from __future__ import annotations

import numpy as np
import pytest

import saekit as sk
from conftest import tiny_sae
from saekit.errors import ConfigError
from saekit.index.statistics import BUILT_IN, STATISTICS


@pytest.fixture(autouse=True)
def only_here():
    known = dict(STATISTICS)
    yield
    STATISTICS.clear()
    STATISTICS.update(known)


@pytest.fixture(scope="module")
def sae(model):
    return tiny_sae(model)


def gini(block):
    """How unequal the activations of a feature are: 0 when all are the same."""

    def of_one(values):
        n, ranks = len(values), np.arange(1, len(values) + 1)
        return 2 * np.sum(ranks * np.sort(values.astype(np.float64))) / (n * values.sum(dtype=np.float64)) - (n + 1) / n

    return block.each(of_one)


def test_a_registered_statistic_is_a_column_of_the_index_and_stays_one(model, sae, corpus, tmp_path):
    sk.index.register_statistic("gini")(gini)

    @sk.index.register_statistic("n_above_half", np.int32)
    def n_above_half(block):
        return block.reduce(np.add, (block.value > 0.5 * np.repeat(block.max, block.count)).astype(np.int64))

    index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    del STATISTICS["gini"], STATISTICS["n_above_half"]  # what an index holds does not depend on what is registered
    for found in (index, sk.load_index(tmp_path / "index")):
        features = found.features
        assert list(features.columns)[1 : len(BUILT_IN) + 3] == [*BUILT_IN, "gini", "n_above_half"]
        assert features["gini"].dtype == np.float64 and features["n_above_half"].dtype == np.int32
        for feature in (0, 9, 30):
            value = found.firings(feature).value.astype(np.float64)
            differences = np.abs(value[:, None] - value[None, :]).sum() if len(value) else 0.0
            expected = differences / (2 * len(value) * value.sum()) if len(value) else 0.0
            assert features["gini"][feature] == pytest.approx(expected, abs=1e-6)
            assert features["n_above_half"][feature] == (value > 0.5 * value.max(initial=0)).sum()
        assert found.feature(9).stats["gini"] == pytest.approx(features["gini"][9])


def test_a_finished_index_without_it_is_not_taken_for_one_that_has_it(model, sae, corpus, tmp_path):
    build = {"out": tmp_path / "index", "length": 32, "progress": False}
    sk.build_index(model, sae, corpus, **build)
    sk.index.register_statistic("gini")(gini)
    with pytest.raises(ConfigError, match="without the statistic 'gini'(.*\n)*.*resume=False builds it again"):
        sk.build_index(model, sae, corpus, **build)
    assert "gini" not in sk.load_index(tmp_path / "index").features
    assert "gini" in sk.build_index(model, sae, corpus, resume=False, **build).features


def test_what_is_no_statistic_is_refused(model, sae, corpus, tmp_path):
    for name in ("", "two words", "histogram", "promoted", 3):
        with pytest.raises(ConfigError, match="not a name for a statistic"):
            sk.index.register_statistic(name)
    with pytest.raises(ConfigError, match=r"the name 'max' is taken\n(.*\n)*.*choose another name"):
        sk.index.register_statistic("max")(gini)
    sk.index.register_statistic("gini")(gini)
    sk.index.register_statistic("gini")(gini)  # its cell was run again

    @sk.index.register_statistic("one_number")
    def one_number(block):
        return block.value.mean()

    with pytest.raises(ConfigError, match=r"'one_number' does not give one number for each feature\n(.*\n)*.*shape"):
        sk.build_index(model, sae, corpus.take(5), out=tmp_path / "index", length=32, progress=False)
