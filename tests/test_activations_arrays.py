"""Arrays, files of arrays and iterables of batches as what an SAE is trained on."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Subset, TensorDataset

import saekit as sk
from saekit.activations import array_digest
from saekit.activations.array_digest import digest_of_arrays
from saekit.activations.sources import as_source
from saekit.errors import ConfigError, DataError, MismatchError

CONFIG = sk.SAEConfig(d_in=8, d_sae=16, activation="topk", k=2)


def numbers(n=200, d=8):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0)) + torch.arange(n)[:, None]


def train(given, steps=8, sae=CONFIG, **options):
    config = sk.TrainConfig(n_tokens=steps * 50, batch_size=50, buffer_tokens=100, checkpoint_every=3)
    return sk.train(None, given, sae=sae, config=config, progress=False, **options)


def source(given):
    return as_source(None, given, length=1, buffer_tokens=100)


def kinds(x, folder):
    np.save(folder / "x.npy", x.numpy())
    save_file({"x": x}, folder / "x.safetensors")
    return {
        "tensor": x,
        "batch pos d": x.reshape(20, 10, 8),
        "numpy": x.numpy(),
        "half": x.half(),
        "memory map": np.load(folder / "x.npy", mmap_mode="r"),
        "npy": folder / "x.npy",
        "safetensors": str(folder / "x.safetensors"),
        "list": list(x.split(30)),
        "DataLoader": DataLoader(x, batch_size=32),  # type: ignore[arg-type]
        "DataLoader of a TensorDataset": DataLoader(TensorDataset(x), batch_size=32),
        "TensorDataset": TensorDataset(x),
        "list of tuples": [(part.numpy(),) for part in x.split(30)],
        "generator of lists": ([part] for part in x.split(30)),
        "generator": (part for part in x.split(30)),
        "function": lambda: (part.numpy() for part in x.reshape(20, 10, 8).split(3)),
    }


def test_every_kind_gives_every_token_once_an_epoch_and_trains(tmp_path):
    x = numbers()
    for kind, given in kinds(x, tmp_path).items():
        batches = source(given).batches(50, seed=1, n_epochs=1)
        seen = torch.cat(list(batches))
        order = seen.mean(1).argsort()
        assert torch.allclose(seen[order], x[x.mean(1).argsort()], atol=0.2 if kind == "half" else 0.0), kind
        assert not torch.equal(seen, x), kind
    for kind, given in kinds(x, tmp_path).items():
        steps = 4 if kind.startswith("generator") else 8
        trained = train(given, steps=steps)
        assert trained.training_summary["finished"] and trained.config.hook_name == "activations", kind


@pytest.mark.parametrize("kind", ["tensor", "npy", "list", "function"])
def test_a_run_on_activations_resumes_bit_for_bit(kind, tmp_path, interrupt_at):
    given = kinds(numbers(), tmp_path)[kind]
    whole = train(given)
    disarm = interrupt_at(5)
    stopped = train(given, out=tmp_path / "run")
    disarm()
    assert not stopped.training_summary["finished"]
    assert train(given, out=tmp_path / "run").fingerprint == whole.fingerprint


def test_a_generator_says_that_it_cannot_be_resumed(tmp_path, interrupt_at):
    disarm = interrupt_at(3)
    train(kinds(numbers(), tmp_path)["generator"], steps=4, out=tmp_path / "run")
    disarm()
    with pytest.raises(MismatchError, match="a generator cannot be read again"):
        train(kinds(numbers(), tmp_path)["generator"], steps=4, out=tmp_path / "run")


def test_other_activations_in_the_folder_of_a_run_are_refused(tmp_path):
    train(numbers(), out=tmp_path)
    with pytest.raises(MismatchError, match="trained on other text or activations"):
        train(numbers() + 1, out=tmp_path)


def test_any_other_row_is_noticed_in_the_folder_of_a_run(tmp_path):
    x = numbers(3000)
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    trained = train(x, out=tmp_path / "run", steps=4)
    same = (x.clone(), x.numpy(), mapped, x.double(), x.reshape(1000, 3, 8), x.T.contiguous().T)
    assert [train(given, out=tmp_path / "run", steps=4).fingerprint for given in same] == [trained.fingerprint] * 6
    for place in (slice(1, None, 2), 2999, 7):
        other = x.clone()
        other[place] += 1
        with pytest.raises(MismatchError, match="trained on other text or activations"):
            train(other, out=tmp_path / "run", steps=4)
        train(list(x.split(30)), out=tmp_path / f"list {place}", steps=4)
        with pytest.raises(MismatchError, match="seen:     a list of arrays"):
            train(list(other.split(30)), out=tmp_path / f"list {place}", steps=4)


def test_of_a_large_file_rows_all_over_it_and_when_it_was_written_are_compared(tmp_path, monkeypatch):
    def digest(x, written=1.0):
        np.save(tmp_path / "x.npy", x)
        os.utime(tmp_path / "x.npy", (written, written))
        return digest_of_arrays([np.load(tmp_path / "x.npy", mmap_mode="r")])

    x = numbers(3000).numpy()
    whole = digest(x)
    monkeypatch.setattr(array_digest, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(array_digest, "N_SAMPLED", 50)
    assert whole != digest(x) == digest(x) != digest(x, written=2.0)
    for place in (slice(1, None, 2), slice(0, None, 2), slice(0, 1), slice(2999, None), slice(0, 300)):
        other = x.copy()
        other[place] += 1
        assert digest(other) != digest(x), place


def test_what_is_no_activations_gets_one_clear_error():
    bad = numbers()
    bad[7, 3] = float("nan")
    for given, error, says in (
        (bad, DataError, "NaN"),
        ([bad], DataError, "NaN"),
        (numbers(d=6), MismatchError, "another width than the SAE"),
        ([numbers(), numbers(d=6)], DataError, r"shape \(200, 6\)"),
        (torch.zeros(0, 8), DataError, r"shape \(0, 8\)"),
        ([], DataError, "no activations to train on"),
        (torch.zeros(9, 8, dtype=torch.long), DataError, "token ids are text"),
        (torch.zeros(9), DataError, r"shape \(9,\)"),
        (TensorDataset(numbers(), numbers()), DataError, r"several arrays(.|\n)*shape \(200, 8\), shape \(200, 8\)"),
        (DataLoader(TensorDataset(numbers(), torch.arange(200)), batch_size=50), DataError, "several arrays"),
        (Subset(TensorDataset(numbers()), range(50)), DataError, "pass torch.utils.data.DataLoader"),
        (numbers(20), DataError, "fewer tokens than one batch"),
    ):
        with pytest.raises(error, match=says):
            train(given)


def test_a_generator_that_ends_early_is_said_and_the_sae_so_far_is_not_taken_for_finished(tmp_path):
    with pytest.raises(DataError, match="came to an end"):
        train(kinds(numbers(), tmp_path)["generator"], steps=8)


def test_with_a_model_the_sae_belongs_to_it(model):
    x = model.activations([[1, 2, 3]] * 40, "blocks.0.hook_resid_post")
    config = sk.TrainConfig(n_tokens=64, batch_size=32)
    sae = sk.train(
        model, x, sae=CONFIG.replace(d_in=32), config=config, hook_name="blocks.0.hook_resid_post", progress=False
    )
    sae.check(model)
    assert sae.config.model_name == model.name


def test_with_a_model_an_array_needs_the_hook_point_it_was_read_at(model):
    x = model.activations([[1, 2, 3]] * 40, "blocks.0.hook_resid_post")
    for given in (x, list(x)):
        with pytest.raises(ConfigError, match='(?s)an array does not say at which hook point.*pass hook_name="blocks'):
            sk.train(model, given, sae=CONFIG.replace(d_in=32), config=sk.TrainConfig(n_tokens=64, batch_size=32))


def test_batches_shuffled_anew_are_told_how_to_stay_the_same(tmp_path, interrupt_at):
    x = numbers()

    def loader(seed):
        return DataLoader(TensorDataset(x), batch_size=50, shuffle=True, generator=torch.Generator().manual_seed(seed))

    for name, steps in (("finished", None), ("interrupted", 5)):
        if steps:
            interrupt_at(steps)
        trained = train(loader(0), out=tmp_path / name)
        assert trained.training_summary["finished"] == (steps is None)
        with pytest.raises(MismatchError, match=r"(?s)shuffled anew each time.*manual_seed.*the array itself"):
            train(loader(1), out=tmp_path / name)
    assert train(loader(0), out=tmp_path / "finished").fingerprint == train(loader(0)).fingerprint
    with pytest.raises(MismatchError, match="trained on other") as e:
        train(x, out=tmp_path / "finished")
    assert "shuffled anew" not in str(e.value)
