"""An architecture of one's own, through training, files, resuming, benchmarks' list and the command line's help."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

import saekit as sk
from conftest import HOOK
from saekit.cli import app
from saekit.errors import ConfigError, FileError, UnknownNameError
from saekit.sae import ARCHITECTURES, Architecture, TrainingForward
from saekit.sae.kinds import every_kind


def soft():
    """The class, made again as when a notebook's cell is run again."""

    class Soft(Architecture):
        """f = max(pre - shrink, 0) with a trained shrink per feature and an L1 penalty."""

        name = "soft"
        options = ("sparsity_coefficient", "target_l0")
        extra_parameters = ("shrink",)
        activation_units = ("shrink",)
        resampling = True

        def acts(self, pre_acts, sae, features=None):
            return (pre_acts - (sae.shrink if features is None else sae.shrink[features])).relu()

        def default_sparsity_coefficient(self, config):
            return 2.0

        def begin(self, sae):
            sae.shrink.fill_(0.05)

        def constrain(self, sae):
            sae.shrink.clamp_(min=0.0)

        def training_forward(self, sae, x, target):
            out = super().training_forward(sae, x, target)
            penalty = self.acts(sae.pre_acts(x), sae).sum() / len(x)
            return TrainingForward(out.error, out.squared_error, out.counts, penalty)

    return Soft


@pytest.fixture(autouse=True)
def _registered():
    before = dict(ARCHITECTURES)
    sk.register_architecture(soft())
    yield
    ARCHITECTURES.clear()
    ARCHITECTURES.update(before)


CONFIG = {"d_in": 32, "d_sae": 64, "activation": "soft", "target_l0": 5.0}


def train(model, corpus, out=None, n_steps=300, **fields):
    config = sk.TrainConfig(n_tokens=n_steps * 64, batch_size=64, context_size=16, buffer_tokens=512, **fields)
    sae = sk.SAEConfig(**CONFIG)
    return sk.train(model, corpus, sae=sae, hook_name=HOOK, config=config, out=out, progress=False)


@pytest.mark.slow
def test_it_trains_to_its_target_and_comes_back_from_its_file(model, corpus, tmp_path):
    sae = train(model, corpus, tmp_path)
    x = model.activations(model.tokenize("the golden gate is red"), HOOK)[0][1:]
    assert sae.history["l0"].iloc[-3:].mean() == pytest.approx(5.0, rel=0.2)
    assert sae.history["explained_variance"].iloc[-1] > 0.5
    back = sk.load_sae(tmp_path)
    assert back.fingerprint == sae.fingerprint and back.config == sae.config
    assert bool(sae.shrink.any()) and torch.equal(back.shrink, sae.shrink)
    assert torch.equal(back.encode_sparse(x).to_dense(), sae.encode(x))
    torch.testing.assert_close(sae.encode_features(x, [3, 1]), sae.encode(x)[:, [3, 1]])
    assert train(model, corpus, tmp_path).fingerprint == sae.fingerprint  # a finished run is read


def test_an_interrupted_run_resumes_bit_for_bit(model, corpus, tmp_path, monkeypatch):
    whole = train(model, corpus, n_steps=20, checkpoint_every=5)
    plain, steps = sk.Trainer.advance, []

    def fails(self, x):
        if len(steps) == 12:
            raise RuntimeError("stopped")
        steps.append(x)
        return plain(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(sk.Trainer, "advance", fails)
        with pytest.raises(RuntimeError, match="stopped"):
            train(model, corpus, tmp_path, n_steps=20, checkpoint_every=5)
    resumed = train(model, corpus, tmp_path, n_steps=20, checkpoint_every=5)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


def test_its_file_names_it_and_needs_it_registered(tmp_path):
    path = sk.SAE(sk.SAEConfig(**CONFIG)).save(tmp_path)
    assert '"architecture": "saekit_soft"' in (path / "cfg.json").read_text()
    del ARCHITECTURES["soft"]
    with pytest.raises(
        FileError, match=r"architecture that is not registered here\n.*soft[\s\S]*register_architecture"
    ):
        sk.load_sae(path)
    with pytest.raises(UnknownNameError, match="unknown architecture 'soft'"):
        sk.SAEConfig(**CONFIG)


def test_it_is_in_the_benchmarks_list_and_the_command_lines_help():
    assert every_kind(5, d_in=32, d_sae=64)["soft"].target_l0 == 5
    text = " ".join(CliRunner().invoke(app, ["train", "--help"]).output.replace("│", " ").split())
    assert "gated, soft" in text and "relu, kl, jumprelu, gated, soft: active features per token" in text


def test_a_subclass_of_another_is_not_written_as_its_parent():
    class Other(type(ARCHITECTURES["jumprelu"])):
        name = "other"

    assert Other.saelens_name == "saekit_other" and not Other().in_saelens


def test_its_cell_can_be_run_again_and_another_name_is_refused():
    again = soft()
    assert sk.register_architecture(again) is again and type(ARCHITECTURES["soft"]) is again

    class Another(Architecture):
        name = "soft"

        def acts(self, pre_acts, sae, features=None):
            return pre_acts

    with pytest.raises(ConfigError, match=r"the name 'soft' is taken[\s\S]*choose another name"):
        sk.register_architecture(Another)
    Another.name = "relu"
    with pytest.raises(ConfigError, match=r"the name 'relu' is taken"):
        sk.register_architecture(Another)


def test_what_is_no_architecture_is_refused():
    class Nameless(Architecture):
        def acts(self, pre_acts, sae, features=None):
            return pre_acts

    class Empty(Architecture):
        name = "empty"

    class Misspelt(Nameless):
        name = "misspelt"
        options = ("bandwith",)

    with pytest.raises(ConfigError, match="not an architecture"):
        sk.register_architecture(Nameless())
    with pytest.raises(ConfigError, match=r"Nameless has no usable name[\s\S]*name = \"nameless\""):
        sk.register_architecture(Nameless)
    with pytest.raises(ConfigError, match="Empty lacks acts"):
        sk.register_architecture(Empty)
    with pytest.raises(UnknownNameError, match="unknown option of architectures 'bandwith'; did you mean 'bandwidth'"):
        sk.register_architecture(Misspelt)
