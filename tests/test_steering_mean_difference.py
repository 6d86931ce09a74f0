"""The mean-difference direction against means taken token by token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import saekit as sk
from conftest import HOOK, tiny_sae, tiny_texts
from saekit.errors import ConfigError, DataError, MismatchError

GATE = sk.Concept.regex("gate", name="gates")


@pytest.fixture(scope="module")
def parts(model: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    sae = tiny_sae(model)
    folder = tmp_path_factory.mktemp("differences")
    return sae, sk.build_index(model, sae, sk.load_corpus(tiny_texts()), out=folder, length=32, progress=False)


def test_it_is_the_difference_of_two_means(model: Any, parts: Any) -> None:
    sae, index = parts
    found = sk.mean_difference(model, sae, index, GATE, n_tokens=10**6, progress=False)
    assert (found.hook_name, found.name, found.token_filter) == (
        HOOK,
        "gates, mean difference",
        sae.config.token_filter,
    )
    x = torch.cat([model.activations([row.tolist()], HOOK)[0] for row in index.windows.tokens]).double()
    kept = np.asarray(index.kept)
    is_gate = torch.from_numpy(GATE.token_mask(index))
    assert 0 < is_gate.sum() < len(kept)
    expected = x[kept][is_gate].mean(0) - x[kept][~is_gate].mean(0)
    torch.testing.assert_close(found.vectors[0].double(), expected, atol=1e-4, rtol=1e-4)


def test_a_sample_holds_the_concept_and_follows_the_seed(model: Any, parts: Any) -> None:
    sae, index = parts
    few = [sk.mean_difference(model, sae, index, GATE, n_tokens=64, seed=s, progress=False) for s in (0, 0, 1)]
    assert few[0] == few[1] != few[2]
    edit = sk.add_direction(few[0], 2.0)
    assert sk.generate(model, "the cat", edits=edit, max_new_tokens=4).tokens


def test_misuse_is_refused(model: Any, parts: Any) -> None:
    sae, index = parts
    with pytest.raises(DataError, match="matches no indexed token"):
        sk.mean_difference(model, sae, index, sk.Concept.regex("zeppelin"))
    with pytest.raises(DataError, match="nothing to subtract"):
        sk.mean_difference(model, sae, index, sk.Concept.regex(r"(?s)."))
    with pytest.raises(MismatchError, match="another SAE"):
        sk.mean_difference(model, tiny_sae(model, d_sae=32), index, GATE)
    with pytest.raises(ConfigError, match="is not positive"):
        sk.mean_difference(model, sae, index, GATE, n_tokens=0)
