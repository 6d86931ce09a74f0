"""Where SAEs come from: the Hub, SAELens' names, packaged names and paths, against a server that speaks the Hub's
protocol."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import huggingface_hub.constants as hub_constants
import pytest
import torch
from safetensors.torch import save_file

import saekit as sk
from saekit.errors import FileError, UnknownNameError
from saekit.sae.formats import hub, registry, releases
from saekit.sae.formats.locations import locate

from .hub_server import COMMIT, hub_server

JB = "jbloom/GPT2-Small-SAEs-Reformatted"
ID = "blocks.8.hook_resid_pre"
SET = "model_kind: transcoder_set\nfeature_input_hook: mlp.hook_in\nfeature_output_hook: hook_mlp_out\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A Hub with one repository of two SAEs, and an empty cache."""
    root = tmp_path / "hub"
    for layer in (8, 9):
        config = sk.SAEConfig(d_in=8, d_sae=16, k=2, seed=layer, hook_name=f"blocks.{layer}.hook_resid_pre")
        sae = sk.SAE(config)
        sae.density = torch.rand(16)
        sae.save(root / JB / f"blocks.{layer}.hook_resid_pre")
    (root / JB / "README.md").write_text("two SAEs")
    (root / JB / "big.bin").write_bytes(bytes(1000))
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
    with hub_server(root) as server:
        monkeypatch.setattr(hub_constants, "ENDPOINT", server.endpoint)
        template = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server


def same(sae: sk.SAE, folder: Path) -> bool:
    return sae.fingerprint == sk.load_sae(folder).fingerprint


@pytest.mark.parametrize(
    "name",
    [
        f"hf://{JB}/{ID}",
        f"hf://{JB}/{ID}@main",
        f"hf://{JB}/{ID}@v1",
        f"hf://{JB}/{ID}@{COMMIT}",
        f"hf://{JB}@v1/{ID}",
        f"hf://{JB}/{ID}/",
        f"https://huggingface.co/{JB}/tree/main/{ID}",
        f"gpt2-small-res-jb/{ID}",
    ],
)
def test_an_sae_comes_from_the_hub_by_every_way_to_say_so(place, name):
    assert same(sk.load_sae(name), place.root / JB / ID)


def test_only_the_files_of_one_sae_are_fetched(place):
    sk.load_sae(f"hf://{JB}/{ID}")
    wanted = {f"{ID}/{name}" for name in ("cfg.json", "sae_weights.safetensors", "sparsity.safetensors")}
    assert set(place.fetched) == wanted


def test_density_comes_along(place):
    assert sk.load_sae(f"hf://{JB}/{ID}").density is not None


def test_a_second_load_fetches_nothing_and_needs_no_server(place):
    first = sk.load_sae(f"hf://{JB}/{ID}")
    n = len(place.fetched)
    assert same(sk.load_sae(f"hf://{JB}/{ID}"), place.root / JB / ID)
    assert len(place.fetched) == n
    place.shutdown()
    place.server_close()
    start = time.perf_counter()
    assert sk.load_sae(f"hf://{JB}/{ID}").fingerprint == first.fingerprint
    assert sk.load_sae(f"gpt2-small-res-jb/{ID}").fingerprint == first.fingerprint
    assert time.perf_counter() - start < 2


def test_a_commit_that_is_in_the_cache_is_not_asked_for(place):
    sk.load_sae(f"hf://{JB}/{ID}@{COMMIT}")
    n = len(place.requests)
    sk.load_sae(f"hf://{JB}/{ID}@{COMMIT}")
    assert len(place.requests) == n


def test_hf_hub_offline_uses_the_cache_and_asks_nobody(place, monkeypatch):
    first = sk.load_sae(f"hf://{JB}/{ID}")
    n = len(place.requests)
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    assert sk.load_sae(f"hf://{JB}/{ID}").fingerprint == first.fingerprint
    with pytest.raises(
        FileError, match=r"is not in the cache, and HF_HUB_OFFLINE is set[\s\S]*unset HF_HUB_OFFLINE"
    ) as e:
        sk.load_sae(f"hf://{JB}/blocks.9.hook_resid_pre")
    assert hub_constants.HF_HUB_CACHE in str(e.value)
    assert len(place.requests) == n


def test_a_file_that_is_missing_in_the_cache_is_no_sae(place):
    """An interrupted download leaves the configuration without the weights."""
    path = locate(f"hf://{JB}/{ID}").path
    (path / "sae_weights.safetensors").unlink()
    place.shutdown()
    place.server_close()
    with pytest.raises(FileError, match="is not in the cache, and 127.0.0.1 cannot be reached: Connection refused"):
        locate(f"hf://{JB}/{ID}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://nobody/nothing/x", r"there is no model repository nobody/nothing[\s\S]*hf auth login"),
        (f"hf://{JB}/{ID}@v7", rf"{JB} has no revision v7[\s\S]*leave @v7 out"),
        (f"hf://{JB}/blocks.8.hook_resid_post", rf"no SAE at[\s\S]*hf://{JB}/{ID}"),
        (f"hf://{JB}", r"holds several SAEs[\s\S]*blocks.8.hook_resid_pre, blocks.9.hook_resid_pre"),
        ("hf://only-an-owner", "is not a place on the Hugging Face Hub"),
        (f"hf://{JB}@a/{ID}@b", "is not a place on the Hugging Face Hub"),
        ("hf://-bad-/--name--/x", r"is not the name of a repository"),
    ],
)
def test_what_does_not_exist_is_said(place, name, message):
    with pytest.raises(FileError, match=message):
        sk.load_sae(name)


def test_a_gated_repository_says_how_to_get_in(place):
    place.gated.add(JB)
    with pytest.raises(FileError, match=rf"access to {JB} has to be asked for[\s\S]*{place.endpoint}/{JB}"):
        sk.load_sae(f"hf://{JB}/{ID}")


def test_a_server_in_trouble_is_named_as_that(place):
    place.failing = True
    with pytest.raises(FileError, match=r"the Hub refused[\s\S]*status 500[\s\S]*wait a little"):
        sk.load_sae(f"hf://{JB}/{ID}")


def test_an_unknown_endpoint_answers_in_time(place, monkeypatch):
    monkeypatch.setattr(hub_constants, "ENDPOINT", "https://no-such-host.invalid")
    start = time.perf_counter()
    with pytest.raises(FileError, match="is not in the cache, and no-such-host.invalid"):
        sk.load_sae(f"gpt2-small-res-jb/{ID}")
    assert time.perf_counter() - start < 2


@pytest.mark.slow
def test_a_host_that_never_answers_is_given_up(place, monkeypatch):
    """Nobody accepts: the queue of this socket is full, and connecting waits."""
    import socket

    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        monkeypatch.setattr(hub_constants, "ENDPOINT", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        start = time.perf_counter()
        with pytest.raises(FileError, match=r"127.0.0.1 did not answer within 1.5 s"):
            sk.load_sae(f"hf://{JB}/{ID}")
        assert time.perf_counter() - start < 2


@pytest.mark.slow
def test_a_fresh_process_without_a_connection_answers_within_two_seconds(tmp_path):
    code = textwrap.dedent(
        f"""
        import time
        import saekit as sk
        sk.SAE
        start = time.perf_counter()
        try:
            sk.load_sae("gpt2-small-res-jb/{ID}")
        except sk.errors.FileError as e:
            print(time.perf_counter() - start, e)
        """
    )
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert float(out.split()[0]) < 2
    assert "127.0.0.1 cannot be reached: Connection refused" in out
    assert str(tmp_path) in out


def test_a_file_alone_comes_with_its_configuration(place):
    path = locate(f"hf://{JB}/{ID}/sae_weights.safetensors").path
    assert path.name == "sae_weights.safetensors"
    assert (path.parent / "cfg.json").is_file()


@pytest.mark.parametrize(
    ("names", "path", "files"),
    [
        (["L8R/hyperparams.json", "L8R/checkpoints/final.safetensors", "L8R/lm_config.json"], "L8R", 2),
        (["layers.3/cfg.json", "layers.3/sae.safetensors", "config.json", "layers.4/sae.safetensors"], "layers.3", 3),
        (["l/trainer_0/ae.pt", "l/trainer_0/config.json", "l/trainer_0/eval.json"], "l/trainer_0", 2),
        (["layer_20/width_16k/average_l0_71/params.npz"], "layer_20/width_16k/average_l0_71", 1),
        (["config.yaml", "layer_0.safetensors", "layer_1.safetensors"], "layer_1.safetensors", 2),
        (["a/config.json", "a/params.safetensors"], "a", 2),
        (["clt/w/config.json", "clt/w/params_layer_0.safetensors"], "clt/w/params_layer_0", 2),
        (["s_ds2_v9.pt", "s_ds2_v9_cfg.json", "t.pt", "t_cfg.json"], "s_ds2_v9.pt", 2),
        (["sae_weights.safetensors", "cfg.json"], "", 2),
    ],
)
def test_the_files_of_every_family_are_found(names, path, files):
    target, found = hub.files_of(names, path, "me/mine")
    assert len(found) == files
    assert target.startswith(path)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("mntss-gemma-2-2b-2.5m-clt-as-per-layer/layer_3", "a cross-layer transcoder"),
        ("temporal-sae-gemma-2-2b/blocks.12.hook_resid_post", "a temporal SAE"),
    ],
)
def test_a_release_that_cannot_be_read_is_not_fetched(place, name, what):
    with pytest.raises(FileError, match=rf"is of a kind that saekit does not read[\s\S]*{what}"):
        sk.load_sae(name)
    assert not place.requests


def test_what_families_need_beside_their_weights_is_fetched():
    needed = {Path(name).name for family in registry.FAMILIES for name in family.beside}
    assert {name for name in needed if not name.endswith(hub.WEIGHT_SUFFIXES)} <= {*hub.BESIDE}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpt2-small-res-jb", "is a release of 13 SAEs"),
        ("gpt2-small-res-jb/blocks.8.hook_resid_post", f"did you mean '{ID}'"),
        ("gpt2-small-res-jbb/blocks.8.hook_resid_pre", rf'did you mean[\s\S]*load_sae\("gpt2-small-res-jb/{ID}"\)'),
        ("gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_72", "did you mean 'layer_20/width_16k/average_l0_71'"),
        ("smollm2-135m-instruct/4kk", "did you mean 'smollm2-135m-instruct/4k'"),
        ("somebody/something", 'hf://somebody/something"'),
        ("nonsense", "smollm2-135m-instruct/4k"),
    ],
)
def test_unknown_names_are_answered_without_the_hub(place, name, message):
    with pytest.raises(UnknownNameError, match=message):
        sk.load_sae(name)
    assert not place.requests


def test_a_folder_of_that_name_comes_before_a_release(place, tmp_path, monkeypatch):
    shutil.copytree(place.root / JB / "blocks.9.hook_resid_pre", tmp_path / "gpt2-small-res-jb" / ID)
    monkeypatch.chdir(tmp_path)
    assert sk.load_sae(f"gpt2-small-res-jb/{ID}").config.hook_name == "blocks.9.hook_resid_pre"
    assert not place.requests


def test_facts_fill_what_a_file_leaves_out(place):
    cfg = place.root / JB / ID / "cfg.json"
    said = json.loads(cfg.read_text())
    assert said["metadata"]["saekit"]["config"]["model_name"] is None
    sae = sk.load_sae(f"gpt2-small-res-jb/{ID}")
    assert sae.config.model_name == "gpt2-small"
    assert sae.config.hook_name == ID


@pytest.fixture
def transcoders(place):
    """A set of two transcoders on the Hub."""
    root = place.root / "me" / "set"
    for layer in range(2):
        weights = {"W_enc": (16, 8), "W_dec": (16, 8), "b_enc": (16,), "b_dec": (8,)}
        root.mkdir(parents=True, exist_ok=True)
        made = {name: torch.randn(shape) for name, shape in weights.items()}
        save_file(made, root / f"layer_{layer}.safetensors")
    (root / "config.yaml").write_text(SET)
    (root / "features.bin").write_bytes(bytes(1000))
    return root


def test_a_set_of_transcoders_comes_from_the_hub(place, transcoders):
    made = sk.load_transcoders("hf://me/set")
    assert [t.config.hook_name for t in made] == ["blocks.0.mlp.hook_in", "blocks.1.mlp.hook_in"]
    assert set(place.fetched) == {"config.yaml", "layer_0.safetensors", "layer_1.safetensors"}
    place.shutdown()
    place.server_close()
    assert len(sk.load_transcoders("hf://me/set")) == 2


def test_a_set_may_list_transcoders_elsewhere_on_the_hub(place, transcoders, tmp_path):
    listed = [f"hf://me/set/layer_{layer}.safetensors?revision=v1" for layer in (1, 0)]
    ends = "feature_input_hook: mlp.hook_in\nfeature_output_hook: hook_mlp_out\n"
    (tmp_path / "config.yaml").write_text(
        "model_kind: transcoder_set\n" + ends + f"transcoders: {json.dumps(listed)}\n"
    )
    made = sk.load_transcoders(tmp_path)
    assert made[0].fingerprint == sk.load_sae(transcoders / "layer_1.safetensors").fingerprint
    assert made[0].config.hook_name == "blocks.0.mlp.hook_in"


def test_a_release_of_transcoders_is_a_set(place, transcoders, monkeypatch):
    entry = {"repo": "me/set", "family": "circuit_tracer", "ids": {"layer_{0,1}": "layer_{0}.safetensors"}}
    entry["facts"] = {"model_name": "tiny", "hook_name": "blocks.{layer}.x", "hook_out": "blocks.{layer}.y"}
    monkeypatch.setitem(releases.table(), "a-set", entry)
    assert [t.config.model_name for t in sk.load_transcoders("a-set")] == ["tiny", "tiny"]
    with pytest.raises(UnknownNameError, match=r"is no set of one transcoder a layer[\s\S]*mwhanna-qwen3-4b"):
        sk.load_transcoders("gpt2-small-res-jb")
