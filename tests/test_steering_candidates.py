"""The search for features to steer with finds those that fire, those that write, and ranks them by what they cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import saekit as sk
from conftest import tiny_sae, tiny_texts
from saekit.errors import ConfigError, DataError, MismatchError
from saekit.steering.word_effects import STARTS

GATE = sk.Concept.regex("gate", name="gates")


@pytest.fixture(scope="module")
def parts(llama: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    sae = tiny_sae(llama, activation="relu")
    with torch.no_grad():  # feature 5 writes "g" and nearly never fires
        ids = llama.tokenize("g", bos=False)[:1]
        toward = llama.unembedding()[:, ids].mean(1) - llama.unembedding().mean(1)
        sae.W_dec[5] = toward / toward.norm()
        sae.b_enc[5] = -100.0
    out: Path = tmp_path_factory.mktemp("candidates")
    return sae, sk.build_index(llama, sae, sk.load_corpus(tiny_texts()), out=out, length=32, progress=False)


@pytest.mark.slow
def test_candidates_fire_or_write_and_are_ranked_by_what_they_cause(llama: Any, parts: Any) -> None:
    sae, index = parts
    found = sk.steering_features(llama, sae, index, GATE, ["g"], n=6, strength=2.0, progress=False)
    fires = sk.rank_features(index, GATE, n=6)
    assert set(fires.index) <= set(found.index) and 5 in found.index and len(found) <= 12
    assert found["found_by"].loc[5] == "writes" and found["writes"].idxmax() == 5 and found["input"].isna().loc[5]
    for i in fires.index:
        assert found["input"].loc[i] == pytest.approx(fires["average_precision"].loc[i])
        assert found["found_by"].loc[i] in ("fires", "both")
    settings = {"strength": 2.0, "progress": False}
    for column, starts in (("chosen_by", STARTS[::2]), ("output", STARTS[1::2])):
        effects = sk.word_effects(llama, sae, found.index.tolist(), ["g"], starts=starts, **settings)["effect"]
        assert found[column].to_dict() == pytest.approx(effects.to_dict(), abs=1e-4)
    assert found["chosen_by"].is_monotonic_decreasing
    assert found.attrs["starts"] == "ranked on 5 starts; output shown on 5 others"
    assert found.attrs["documents"] == fires.attrs["documents"] and "chosen on" in found.attrs["documents"]
    assert (found["n_starts"] == 5).all() and (found["output_low"] <= found["output"]).all()
    one = sk.steering_features(llama, sae, index, GATE, ["g"], n=2, starts=STARTS[:1], **settings)
    assert (
        "too good" in one.attrs["starts"]
        and (one["chosen_by"] == one["output"]).all()
        and one["output_low"].isna().all()
    )
    ids = llama.tokenize("g", bos=False)[0]
    unembedding = llama.unembedding()
    for i in found.index:
        effect = sae.W_dec[i].detach() @ unembedding
        assert found["writes"].loc[i] == pytest.approx(float(effect[ids] - effect.mean()), abs=1e-4)


def test_a_concept_in_a_single_text_has_no_figures_and_says_why(llama: Any, tmp_path: Path) -> None:
    sae = tiny_sae(llama, activation="relu")
    texts = [{"text": "a cat on the mat"}] * 7 + [{"text": "the gate of the garden"}]
    index = sk.build_index(llama, sae, sk.load_corpus(texts), out=tmp_path, length=32, progress=False)
    found = sk.steering_features(llama, sae, index, GATE, ["g"], n=2, starts=STARTS[:2], progress=False)
    assert found[["input", "input_low", "input_high"]].isna().all().all() and found["output"].notna().all()
    assert found.attrs["documents"]


def test_misuse_is_refused(llama: Any, parts: Any) -> None:
    sae, index = parts
    with pytest.raises(ConfigError, match="n is not positive"):
        sk.steering_features(llama, sae, index, GATE, ["g"], n=0)
    with pytest.raises(DataError, match="nothing to score"):
        sk.steering_features(llama, sae, index, GATE, [])
    with pytest.raises(MismatchError, match="another SAE"):
        sk.steering_features(llama, tiny_sae(llama, d_sae=32), index, GATE, ["g"])
