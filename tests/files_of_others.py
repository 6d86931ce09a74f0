"""Files that others write and saekit reads: small ones of every family, corpora, activations and settings."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

import saekit as sk
from saekit.activations.arrays import of_arrays
from saekit.cli_config import read_config
from saekit.models.checking import check_folder

from .kinds_of_files import Kind, hashed, of_sae
from .sae_files import D, K, N, json_file, tensors


def _loaded(**said: Any) -> Callable[[Path], Any]:
    return lambda folder: of_sae(sk.load_sae(folder, **said))


def make_sparsify(folder: Path) -> None:
    w = tensors()
    json_file(folder, "cfg.json", {"d_in": D, "num_latents": N, "k": K, "activation": "topk", "signed": False})
    named = {"encoder.weight": w["W_enc"].T.contiguous(), "encoder.bias": w["b_enc"], "W_dec": w["W_dec"]}
    save_file(named | {"b_dec": w["b_dec"]}, folder / "sae.safetensors")


def make_dictionary_learning(folder: Path) -> None:
    w = tensors()
    trainer = {
        "dict_class": "BatchTopKSAE",
        "layer": 3,
        "submodule_name": "resid_post_layer_3",
        "k": K,
        "lm_name": "gpt2",
    }
    json_file(folder, "config.json", {"trainer": trainer, "buffer": {"ctx_len": 64}})
    state = {"encoder.weight": w["W_enc"].T.clone(), "encoder.bias": w["b_enc"], "decoder.weight": w["W_dec"].T.clone()}
    torch.save(state | {"b_dec": w["b_dec"], "threshold": torch.tensor(0.1), "k": torch.tensor(K)}, folder / "ae.pt")


def make_llama_scope(folder: Path) -> None:
    w = tensors()
    facts = {"d_model": D, "hook_point_in": "blocks.3.hook_resid_post", "hook_point_out": "blocks.3.hook_resid_post"}
    facts |= {"act_fn": "jumprelu", "jump_relu_threshold": 0.5, "norm_activation": "dataset-wise", "sae_type": "sae"}
    facts |= {"dataset_average_activation_norm": {"in": 3.5, "out": 3.5}, "sparsity_include_decoder_norm": True}
    json_file(folder, "hyperparams.json", facts)
    named = {"encoder.weight": w["W_enc"].T.contiguous(), "encoder.bias": w["b_enc"]}
    named |= {"decoder.weight": w["W_dec"].T.contiguous(), "decoder.bias": w["b_dec"]}
    save_file(named, folder / "final.safetensors")


def make_gemma_scope(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "params.npz", **{name: value.numpy() for name, value in tensors().items()})


def make_gemma_scope_2(folder: Path) -> None:
    facts = {"architecture": "jump_relu", "hf_hook_point_in": "model.layers.9.output", "model_name": "gemma-3-1b"}
    json_file(folder, "config.json", facts)
    save_file({name.lower(): value for name, value in tensors().items()}, folder / "params.safetensors")


def make_circuit_tracer(folder: Path) -> None:
    w = tensors()
    folder.mkdir(parents=True, exist_ok=True)
    text = "model_name: gpt2\nmodel_kind: transcoder_set\nfeature_input_hook: mlp.hook_in\n"
    text += "feature_output_hook: hook_mlp_out\n"
    (folder / "config.yaml").write_text(text)
    named = {name: w[name] for name in ("W_dec", "b_enc", "b_dec")} | {"W_enc": w["W_enc"].T.contiguous()}
    save_file(named, folder / "layer_3.safetensors")


def make_saelens_5(folder: Path) -> None:
    w = tensors()
    facts = {"d_in": D, "d_sae": N, "hook_name": "blocks.3.hook_resid_pre", "activation_fn_str": "topk"}
    facts |= {
        "activation_fn_kwargs": {"k": K},
        "architecture": "standard",
        "dtype": "torch.float32",
        "model_name": "gpt2",
    }
    facts |= {"prepend_bos": True, "context_size": 128, "normalize_activations": "none", "apply_b_dec_to_input": True}
    json_file(folder, "cfg.json", facts)
    save_file({name: w[name] for name in ("W_enc", "W_dec", "b_enc", "b_dec")}, folder / "sae_weights.safetensors")


ROWS = [{"text": f"document {i} ü", "topic": "bridge" if i % 2 else "other", "year": 1937 + i} for i in range(12)]


def corpus(name: str) -> Kind:
    def make(folder: Path) -> None:
        folder.mkdir()
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
        contents = {
            "rows.jsonl": lines.encode(),
            "rows.json": json.dumps(ROWS).encode(),
            "rows.csv": pd.DataFrame(ROWS).to_csv(index=False).encode(),
            "rows.jsonl.gz": gzip.compress(lines.encode()),
        }
        if name in contents:
            (folder / name).write_bytes(contents[name])
        else:
            pd.DataFrame(ROWS).to_parquet(folder / name)

    return Kind(make, lambda folder: repr([*sk.load_corpus(folder / name)]), by_others=True)


def make_arrays(folder: Path) -> None:
    folder.mkdir()
    np.save(folder / "x.npy", np.ones((6, 8), np.float32))
    save_file({"activations": torch.ones(6, 8)}, folder / "x.safetensors")


def of_both(folder: Path) -> Any:
    found = [of_arrays(folder / name, None, 100) for name in ("x.npy", "x.safetensors")]
    return [hashed(np.asarray(source.array)) for source in found if source is not None]


def make_settings(folder: Path) -> None:
    folder.mkdir()
    (folder / "run.yaml").write_text("out: run\nmodel:\n  name: gpt2\nsae:\n  d_sae: 64\n  k: 4\ncorpus: demo\n")


def make_model(folder: Path) -> None:
    json_file(folder, "config.json", {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32})
    json_file(folder, "model.safetensors.index.json", {"metadata": {}, "weight_map": {"a": "model-1.safetensors"}})
    (folder / "model-1.safetensors").write_bytes(b"")


OTHERS: dict[str, Kind] = {
    "sparsify": Kind(make_sparsify, _loaded(), by_others=True),
    "dictionary_learning": Kind(make_dictionary_learning, _loaded(), by_others=True),
    "Llama Scope": Kind(make_llama_scope, _loaded(), by_others=True),
    "Gemma Scope": Kind(make_gemma_scope, _loaded(), by_others=True),
    "Gemma Scope 2": Kind(make_gemma_scope_2, _loaded(), by_others=True),
    "circuit-tracer": Kind(make_circuit_tracer, _loaded(), by_others=True),
    "SAELens 5": Kind(make_saelens_5, _loaded(), by_others=True),
    **{name: corpus(name) for name in ("rows.jsonl", "rows.json", "rows.csv", "rows.parquet", "rows.jsonl.gz")},
    "arrays": Kind(make_arrays, of_both, by_others=True),
    "settings": Kind(make_settings, lambda folder: repr(read_config(folder / "run.yaml")), by_others=True),
    "model": Kind(make_model, lambda folder: check_folder(folder, folder), by_others=True),
}
"""By name; a flipped number in them cannot be told from another one, so any result counts as fine."""
