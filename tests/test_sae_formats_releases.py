"""SAELens' names of published SAEs: the paths and facts that releases.json gives."""

from __future__ import annotations

import pytest

from saekit.sae.formats import releases

ID = "blocks.8.hook_resid_pre"


def test_saelens_names_are_those_of_its_list():
    """Counts of SAELens 6.54.12; scripts/saelens_releases.py --check compares every id and path."""
    ids = {name: releases.ids_of(name) for name in releases.table()}
    assert (len(ids), sum(map(len, ids.values()))) == (170, 13857)
    assert ids["gpt2-small-res-jb"][ID] == ID
    assert ids["gemma-scope-2b-pt-res-canonical"]["layer_20/width_16k/canonical"] == "layer_20/width_16k/average_l0_71"
    assert ids["llama_scope_lxm_32x"]["l7m_32x"] == "Llama3_1-8B-Base-L7M-32x"
    assert ids["gpt2-small-resid-post-v5-32k"]["blocks.0.hook_resid_post"] == "v5_32k_layer_0.pt"


@pytest.mark.parametrize(
    ("release", "sae_id", "facts"),
    [
        ("gpt2-small-res-jb", ID, {"model_name": "gpt2-small", "weight_processing": "center_writing_weights"}),
        (
            "gemma-scope-2b-pt-res",
            "layer_20/width_16k/average_l0_71",
            {"model_name": "gemma-2-2b", "hook_name": "blocks.20.hook_resid_post", "prepend_bos": True},
        ),
        ("gemma-scope-9b-it-res", "layer_20/width_131k/average_l0_13", {"model_name": "gemma-2-9b-it"}),
        ("gemma-scope-2b-pt-att", "layer_0/width_16k/average_l0_104", {"hook_name": "blocks.0.attn.hook_z"}),
        (
            "gemma-scope-2b-pt-res",
            "embedding/width_4k/average_l0_6",
            {"hook_name": "hook_embed", "activation_scale": 2304**-0.5},
        ),
        (
            "gemma-scope-2-1b-pt-transcoders-all",
            "layer_7_width_16k_l0_big",
            {"hook_name": "blocks.7.mlp.hook_in", "hook_out": "blocks.7.hook_mlp_out"},
        ),
        ("mwhanna-qwen3-4b-transcoders", "layer_12", {"hook_name": "blocks.12.mlp.hook_in"}),
        ("goodfire-llama-3.1-8b-instruct", "layer_19", {"hook_name": "blocks.19.hook_resid_post"}),
        ("qwen-scope-3-8b-base-w64k-l50", "layer9", {"hook_name": "blocks.9.hook_resid_post", "k": 50}),
        ("mistral-7b-res-wg", ID, {"normalize_activations": "constant_norm_rescale"}),
        ("gpt2-small-mlp-tm", "blocks.0.hook_mlp_out", {"activation_scale": 1.049317316132615}),
        ("gpt2-small-hook-z-kk", "blocks.5.hook_z", {"hook_name": "blocks.5.attn.hook_z"}),
        (
            "deepseek-r1-distill-llama-8b-qresearch",
            "blocks.19.hook_resid_post",
            {"hook_name": "blocks.19.hook_resid_post"},
        ),
    ],
)
def test_what_files_leave_out_is_known_of_a_release(release, sae_id, facts):
    found = releases.published(release, sae_id)
    assert facts.items() <= found.facts.items()
    assert facts.items() <= releases.facts_of(found.repo, found.path).items()


def test_every_layer_is_found():
    for release, entry in releases.table().items():
        for sae_id in () if entry["family"] in releases.UNREADABLE else releases.ids_of(release):
            assert "None" not in str(releases.published(release, sae_id).facts), (release, sae_id)
