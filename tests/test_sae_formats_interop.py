"""SAE files of every family give the numbers of the library that they come from.

tests/interop/families/ holds small files and what the original made of 64 activations, written by
scripts/interop_families.py --write, which also compares 1,000. cases.json says which original that was: the library
itself (SAELens, sparsify, dictionary_learning, circuit-tracer, lm-saes), SAELens' loader for what others published as
files (Gemma Scope, Llama Scope, Qwen Scope and so on), or for OpenAI, whose code is not on PyPI, its published formula.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import saekit as sk
from saekit.sae.formats import hub, registry, releases

KEPT = Path(__file__).parent / "interop" / "families"
CASES: dict[str, dict[str, str]] = json.loads((KEPT / "cases.json").read_text())
TOLERANCE = 1e-5
HOOKS = {
    "gemma_scope-res": "blocks.20.hook_resid_post",
    "gemma_scope-att": "blocks.0.attn.hook_z",
    "gemma_scope_2-without_config": "blocks.5.hook_mlp_out",
    "llama_scope-res": "blocks.8.hook_resid_post",
    "sparsify-topk": "blocks.3.hook_resid_post",
    "dictionary_learning-standard": "blocks.4.hook_resid_post",
    "circuit_tracer-relu": "blocks.1.mlp.hook_in",
    "qwen_scope": "blocks.9.hook_resid_post",
    "attn_saes_gpt2": "blocks.5.attn.hook_z",
    "saelens_old-first_layout": "blocks.8.hook_resid_pre",
}
"""A hook point of each family, whether a file or its release says it."""


@pytest.fixture
def load(monkeypatch):
    """The SAE of a case; by its published name, with these files in place of the Hub, where it has one."""

    def loaded(case: str) -> sk.SAE:
        root, about = KEPT / case, CASES[case]
        if "release" not in about:
            return sk.load_sae(root / about["path"])
        files = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
        monkeypatch.setattr(hub, "fetch", lambda repo, path, revision: root / hub.files_of(files, path, repo)[0])
        return sk.load_sae(f"{about['release']}/{about['id']}")

    return loaded


def original(case: str) -> tuple[Tensor, Tensor]:
    """Features and reconstructions of the original."""
    made: dict[str, Any] = load_file(KEPT / f"{case}.safetensors")
    fires = torch.from_numpy(np.unpackbits(made["fires"].numpy(), axis=1)).bool()
    return torch.zeros(fires.shape).masked_scatter(fires, made["values"]), made["x_hat"]


def difference(made: Tensor, expected: Tensor) -> float:
    """The largest, in units of the largest expected value."""
    return float((made - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("case", CASES)
def test_features_and_reconstructions_are_those_of_the_original(case, load):
    x = load_file(KEPT / "x.safetensors")["x"]
    sae, (acts, x_hat) = load(case), original(case)
    assert difference(sae.encode(x), acts) < TOLERANCE
    assert difference(sae(x).x_hat, x_hat) < TOLERANCE


@pytest.mark.parametrize(("case", "hook_name"), HOOKS.items())
def test_hook_points_are_known(case, hook_name, load):
    assert load(case).config.hook_name == hook_name


def test_every_case_that_was_checked_against_a_library_says_its_version():
    without = {case for case, about in CASES.items() if not about["checked_against"].split()[-1][0].isdigit()}
    assert without == {"openai-relu", "openai-topk"}


def test_every_family_that_can_be_read_has_a_case():
    """A family that is added to the registry comes with files of its library."""
    places = {case: [KEPT / case / CASES[case]["path"], *(KEPT / case).rglob("*.*")] for case in CASES}
    there = [path for paths in places.values() for path in paths if path.exists()]
    refused = (registry.refused.CROSS_LAYER, registry.refused.TEMPORAL)
    without = [f.name for f in registry.FAMILIES if f not in refused and not any(map(f.recognises, there))]
    assert without == []


def test_readme_lists_what_loads():
    rows = (Path(__file__).parents[1] / "README.md").read_text().split("## SAEs it loads")[1].split("\n## ")[0]
    listed = [line.split("|")[1].strip() for line in rows.splitlines() if line.startswith("|")][2:]
    refused = (registry.refused.CROSS_LAYER, registry.refused.TEMPORAL)
    assert sorted(listed) == sorted(family.name for family in registry.FAMILIES if family not in refused)
    for name in re.findall(r'`"([^"]+)"`', rows):
        if not name.startswith("hf://"):
            release, _, sae_id = name.partition("/")
            assert sae_id in releases.ids_of(release)
