"""A grid is trained once, resumes where it was, and is measured on what no SAE has seen."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
import pytest

import saekit as sk
from saekit.errors import DataError


@pytest.fixture(scope="module")
def truth():
    return sk.synthetic.independent(d_model=16, n_features=64, n_active=3)


KNOWN = {"widths": (4, 16, 64), "sparsities": (2, 4), "budgets": (6400, 12800), "n_held_out": 1000, "progress": False}
RUN = sk.TrainConfig(n_tokens=12800, batch_size=128, lr=1e-2)


@pytest.fixture(scope="module")
def measured(truth):
    return sk.scaling_study(None, truth.batches, config=RUN, **KNOWN)


@pytest.mark.slow
def test_more_features_and_more_active_ones_lose_less(measured):
    frame = measured.to_frame()
    assert len(frame) == 12 and set(frame["n_tokens"]) == {6400, 12800}
    for _, here in frame.groupby(["sparsity", "n_tokens"]):
        assert here.sort_values("width")["loss"].is_monotonic_decreasing
    wide = frame[frame["width"] == 64].set_index(["sparsity", "n_tokens"])["loss"]
    assert wide[4, 12800] < wide[2, 12800] and wide[4, 12800] < wide[4, 6400]
    roomy = frame[frame["width"] > 4]
    assert roomy["l0"].to_numpy() == pytest.approx(roomy["sparsity"], abs=0.2)
    assert (frame["compute"] == 12 * 16 * frame["width"] * frame["n_tokens"]).all()
    assert "12 runs, topk" in repr(measured) and "1,000 fresh tokens never trained on" in repr(measured)


def test_loss_is_the_unexplained_share_of_the_held_out_variance(truth, tmp_path):
    options = {**KNOWN, "widths": (16,), "sparsities": (2,), "budgets": (640,), "n_held_out": 6000}
    loss = sk.scaling_study(None, truth.batches, config=RUN, out=tmp_path, **options).to_frame()["loss"].item()
    sae = sk.load_sae(tmp_path / "640-tokens" / "0-topk-16")
    x = next(truth.batches(20_000, 77))
    slow = float(((x - sae(x).x_hat.detach()) ** 2).sum() / ((x - x.mean(0)) ** 2).sum())
    assert loss == pytest.approx(slow, rel=0.02)


@pytest.mark.slow
def test_a_study_goes_on_where_it_was(truth, tmp_path, monkeypatch):
    options = {**KNOWN, "widths": (8, 16)}
    whole = sk.scaling_study(None, truth.batches, config=RUN, **options)

    class KilledError(Exception):
        pass

    step = sk.Trainer.advance

    def dies(self, x, target=None):
        if self.config.n_tokens == 12800 and self.n_steps_done == 70:
            raise KilledError
        return step(self, x, target)

    monkeypatch.setattr(sk.Trainer, "advance", dies)
    run = replace(RUN, checkpoint_every=20)
    with pytest.raises(KilledError):
        sk.scaling_study(None, truth.batches, config=run, out=tmp_path, **options)
    steps = []
    monkeypatch.setattr(sk.Trainer, "advance", lambda self, x, target=None: steps.append(1) or step(self, x, target))
    again = sk.scaling_study(None, truth.batches, config=run, out=tmp_path, **options)
    pd.testing.assert_frame_equal(again.to_frame(), whole.to_frame())
    assert len(steps) == 4 * (100 - 60)  # four SAEs from step 60 on; the first budget was done
    steps.clear()
    sk.scaling_study(None, truth.batches, config=run, out=tmp_path, **options)
    assert not steps


def test_text_is_run_once_and_held_out_documents_are_never_trained_on(model, corpus, tmp_path):
    hook = "blocks.0.hook_resid_post"
    config = sk.TrainConfig(n_tokens=1024, batch_size=64, context_size=16, lr=1e-2)
    options = {"widths": (8, 32), "sparsities": (2,), "n_held_out": 400, "progress": False, "hook_name": hook}
    text = sk.scaling_study(model, corpus, config=config, out=tmp_path, **options)
    cache = sk.open_activations(tmp_path / "activations")
    same = sk.scaling_study(None, cache, config=config, **options)
    pd.testing.assert_frame_equal(text.to_frame(), same.to_frame())
    training, held_out = cache.split(400 / cache.n_tokens, seed=config.seed)
    assert text.n_unique == training.n_tokens and f"{held_out.n_tokens:,} held-out tokens" in repr(text)
    assert text.to_frame()["n_tokens"].unique().tolist() == [256, 512, 1024]
    x, sae = held_out.x(slice(None)), sk.load_sae(tmp_path / "1024-tokens" / "1-topk-32")
    slow = float(((x - sae(x).x_hat.detach()) ** 2).sum() / ((x - x.mean(0)) ** 2).sum())
    assert text.to_frame()["loss"].iloc[-1] == pytest.approx(slow, rel=1e-4)
    long = sk.scaling_study(None, cache, config=replace(config, n_tokens=4096), **{**options, "budgets": (4096,)})
    assert re.search(r"the longest runs see each \d\.\d times", repr(long))


@pytest.mark.slow
def test_architectures_with_a_penalty_are_steered_and_their_measured_l0_is_fitted(truth):
    options = {**KNOWN, "sparsities": (2.0, 4.0), "widths": (16, 32, 64), "budgets": (6400,)}
    s = sk.scaling_study(None, truth.batches, config=RUN, activation="relu", **options)
    l0 = s.to_frame()["l0"]
    frame = pd.concat([s.to_frame(), s.to_frame().assign(width=lambda f: 4 * f["width"], loss=lambda f: f["loss"] / 2)])
    law = replace(s, frame=frame).fit_lnk()
    assert law.runs["sparsity"].tolist() == [*l0, *l0] and set(law.runs["asked"]) == {2.0, 4.0}
    assert len({t.name for t in law.plot().data if t.mode == "lines+text"}) == 2


def test_loggers_are_given_every_budget(truth):
    class Log:
        def __init__(self):
            self.runs, self.status = [], []

        def start(self, run):
            self.runs.append((len(run.saes), run.config.n_tokens))

        def record(self, rows, densities):
            pass

        def finish(self, status, message):
            self.status.append(status)

    log = Log()
    options = {**KNOWN, "budgets": (640, 1280), "widths": (4, 8)}
    sk.scaling_study(None, truth.batches, config=RUN, loggers=[log], **options)
    assert log.runs == [(4, 640), (4, 1280)] and log.status == ["finished"] * 2


# ---- what is refused ----------------------------------------------------------------------------------------------


def test_too_few_runs_are_refused_with_the_number_it_takes(measured):
    with pytest.raises(
        DataError, match=r"too few runs for the 6 [\s\S]*6 runs: 3 widths, 2 spars[\s\S]*at least 8 runs"
    ):
        measured.fit_lnk()
    with pytest.raises(
        DataError, match=r"too few runs for the 5 [\s\S]*2 token budgets[\s\S]*at least 7 runs, at 3 widths"
    ):
        measured.fit_compute()
    fig = measured.plot()
    assert any("no law: 6 runs" in a.text for a in fig.layout.annotations)


def test_bad_requests(truth, measured, model, corpus):
    call = {**KNOWN, "config": RUN}
    with pytest.raises(sk.SaekitError, match="widths are not distinct positive numbers"):
        sk.scaling_study(None, truth.batches, **{**call, "widths": (8, 8)})
    with pytest.raises(sk.SaekitError, match=r"k does not fit the topk architecture"):
        sk.scaling_study(None, truth.batches, **{**call, "sparsities": (5,)})
    with pytest.raises(sk.SaekitError, match="n_held_out is not positive"):
        sk.scaling_study(None, truth.batches, **{**call, "n_held_out": 0})
    with pytest.raises(sk.SaekitError, match=r"this is not a corpus\n.*int[\s\S]*batches"):
        sk.scaling_study(None, 1, **call)
    with pytest.raises(sk.SaekitError, match="a study on text needs a model and a hook_name"):
        sk.scaling_study(model, corpus, **call)
    with pytest.raises(sk.SaekitError, match="the batches do not depend on the seed"):
        sk.scaling_study(None, lambda n, seed: truth.batches(n, 0), **call)
    with pytest.raises(sk.SaekitError, match=r"the batches came to an end\n.*10 batches of 128"):
        sk.scaling_study(
            None, lambda n, seed: (x for x, _ in zip(truth.batches(n, seed), range(10), strict=False)), **call
        )
    with pytest.raises(sk.SaekitError, match="SAEs that reconstruct what they read"):
        sk.scaling_study(None, truth.batches, hook_out="a", **call)
    with pytest.raises(DataError, match=r"no run of this sparsity\n.*3\n.*2, 4"):
        measured.fit_compute(3)
