"""SAEs of sparsify, dictionary_learning and circuit-tracer, written and read by them; OpenAI's by its formula."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from circuit_tracer.transcoder import single_layer_transcoder as circuit_tracer
from dictionary_learning import dictionary as dictionaries
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from sparsify.config import SparseCoderConfig
from sparsify.sparse_coder import SparseCoder
from torch import Tensor

from .cases import (
    D,
    K,
    N,
    Original,
    case,
    filled,
    json_file,
    normal,
    saelens_weights,
    tensors_file,
    thresholds,
    torch_file,
)
from .saelens import place, published

# ---- EleutherAI's sparsify ----


def sparsify(root: Path, hookpoint: str, dtype: torch.dtype = torch.float32, **options: Any) -> tuple[str, Original]:
    """A folder that sparsify wrote, loaded by it."""
    config = SparseCoderConfig(num_latents=N, k=K, **options)
    filled(SparseCoder(D, config, dtype=dtype)).save_to_disk(root / hookpoint)
    coder: Any = SparseCoder.load_from_disk(root / hookpoint).float()

    def original(x: Tensor) -> tuple[Tensor, Tensor]:
        top, indices, _ = coder.encode(x)
        x_hat = coder.decode(top, indices)  # forward() returns that of 4 k latents where multi_topk is set
        if coder.W_skip is not None:
            x_hat = x_hat + x @ coder.W_skip.mT
        return torch.zeros(len(x), N).scatter_(1, indices, top), x_hat

    return hookpoint, original


@case("sparsify-topk")
def sparsify_topk(root: Path) -> tuple[str, Original]:
    json_file(
        root / "config.json", {"model": "EleutherAI/pythia-160m", "dataset": "EleutherAI/the_pile", "ctx_len": 1024}
    )
    return sparsify(root, "layers.3")


@case("sparsify-mlp")
def sparsify_mlp(root: Path) -> tuple[str, Original]:
    return sparsify(root, "layers.3.mlp", normalize_decoder=False)


@case("sparsify-multi_topk_bfloat16")
def sparsify_multi(root: Path) -> tuple[str, Original]:
    return sparsify(root, "layers.10", dtype=torch.bfloat16, multi_topk=True)


@case("sparsify-transcoder")
def sparsify_transcoder(root: Path) -> tuple[str, Original]:
    return sparsify(root, "layers.4.mlp", transcode=True)


@case("sparsify-skip_transcoder")
def sparsify_skip(root: Path) -> tuple[str, Original]:
    return sparsify(root, "layers.5.mlp", transcode=True, skip_connection=True)


# ---- dictionary_learning ----


def dictionary(root: Path, sae: Any, **trainer: Any) -> tuple[str, Original]:
    """ae.pt and config.json as dictionary_learning's training writes them, and its own class with these weights."""
    at = root / "resid_post_layer_4" / "trainer_2"
    filled(sae)
    torch_file(at / "ae.pt", {name: tensor.cpu() for name, tensor in sae.state_dict().items()})
    config = {
        "trainer": {
            "dict_class": type(sae).__name__,
            "activation_dim": D,
            "dict_size": N,
            "layer": 4,
            "lm_name": "EleutherAI/pythia-70m-deduped",
            "submodule_name": "resid_post_layer_4",
            "seed": 0,
            **trainer,
        },
        "buffer": {"d_submodule": D, "io": "out", "ctx_len": 128, "n_ctxs": 300, "device": "cuda:0"},
    }
    json_file(at / "config.json", config)
    loaded = type(sae).from_pretrained(at / "ae.pt")
    return str(at.relative_to(root)), lambda x: (loaded.encode(x), loaded.decode(loaded.encode(x)))


@case("dictionary_learning-standard")
def dictionary_standard(root: Path) -> tuple[str, Original]:
    """from_pretrained brings decoder columns to unit norm, and features to match."""
    return dictionary(root, dictionaries.AutoEncoder(D, N), trainer_class="StandardTrainer")


@case("dictionary_learning-april")
def dictionary_april(root: Path) -> tuple[str, Original]:
    return dictionary(root, dictionaries.AutoEncoderNew(D, N), trainer_class="StandardTrainerAprilUpdate")


@case("dictionary_learning-gated")
def dictionary_gated(root: Path) -> tuple[str, Original]:
    return dictionary(root, dictionaries.GatedAutoEncoder(D, N), trainer_class="GatedSAETrainer")


@case("dictionary_learning-jumprelu")
def dictionary_jumprelu(root: Path) -> tuple[str, Original]:
    return dictionary(root, dictionaries.JumpReluAutoEncoder(D, N), trainer_class="JumpReluTrainer")


@case("dictionary_learning-topk")
def dictionary_topk(root: Path) -> tuple[str, Original]:
    sae = AutoEncoderTopK(D, N, K)
    sae.threshold.fill_(0.7)  # written by training, not used by encode
    return dictionary(root, sae, trainer_class="TopKTrainer", k=K)


@case("dictionary_learning-batchtopk")
def dictionary_batchtopk(root: Path) -> tuple[str, Original]:
    sae = BatchTopKSAE(D, N, K)
    sae.threshold.fill_(0.7)
    return dictionary(root, sae, trainer_class="BatchTopKTrainer", k=K)


@case("dictionary_learning-matryoshka")
def dictionary_matryoshka(root: Path) -> tuple[str, Original]:
    sae = MatryoshkaBatchTopKSAE(D, N, K, [16, 48])
    sae.threshold.fill_(0.7)
    return dictionary(root, sae, trainer_class="MatryoshkaBatchTopKTrainer", k=K)


@case(
    "dictionary_learning-release",
    "sae_bench_gemma-2-2b_topk_width-2pow12_date-1109",
    "blocks.12.hook_resid_post__trainer_3",
)
def dictionary_release(root: Path) -> tuple[str, Original]:
    """Also by its name in SAELens' list, whose loader is asked here."""
    path = place("dictionary_learning-release")
    written, _ = dictionary(root, AutoEncoderTopK(D, N, K), k=K)
    (root / path).parent.mkdir(parents=True)
    shutil.move(root / written, root / path)
    cfg = json.loads((root / path / "config.json").read_text())
    cfg["trainer"] |= {"layer": 12, "lm_name": "google/gemma-2-2b", "submodule_name": "resid_post_layer_12"}
    json_file(root / path / "config.json", cfg)
    return published(root, "dictionary_learning-release")


# ---- circuit-tracer ----


def transcoder(root: Path, activation: Any, *, skip: bool = False) -> tuple[str, Original]:
    """A file that circuit-tracer wrote, one of a set, loaded by it."""
    made = circuit_tracer.SingleLayerTranscoder(
        D, N, activation, 1, skip_connection=skip, device=torch.device("cpu"), dtype=torch.float32
    )
    filled(made).to_safetensors(str(root / "layer_1.safetensors"))
    filled(made).to_safetensors(str(root / "layer_0.safetensors"))
    config = {
        "model_kind": "transcoder_set",
        "model_name": "Qwen/Qwen3-0.6B",
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "mlp.hook_out",
        "scan": "qwen3-0.6b",
    }
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    loaded = circuit_tracer.load_relu_transcoder(str(root / "layer_1.safetensors"), 1, torch.device("cpu"))
    return "layer_1.safetensors", lambda x: (loaded.encode(x), loaded(x))


@case("circuit_tracer-relu")
def circuit_tracer_relu(root: Path) -> tuple[str, Original]:
    return transcoder(root, torch.nn.functional.relu)


@case("circuit_tracer-jumprelu")
def circuit_tracer_jumprelu(root: Path) -> tuple[str, Original]:
    return transcoder(root, circuit_tracer.JumpReLU(thresholds(), 0.1))


@case("circuit_tracer-skip")
def circuit_tracer_skip(root: Path) -> tuple[str, Original]:
    return transcoder(root, torch.nn.functional.relu, skip=True)


@case("circuit_tracer-release", "mwhanna-qwen3-4b-transcoders", "layer_12")
def circuit_tracer_release(root: Path) -> tuple[str, Original]:
    weights = saelens_weights()
    tensors_file(root / place("circuit_tracer-release"), weights | {"W_enc": weights["W_enc"].T})
    wandb = {"d_model": {"value": D}, "d_feature": {"value": N}, "batch_size": {"value": 128}}
    (root / "wandb-config.yaml").write_text(yaml.safe_dump(wandb))
    config = {"model_name": "Qwen/Qwen3-4B", "feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out"}
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    return published(root, "circuit_tracer-release")


# ---- OpenAI: by its published formula ----


def openai(root: Path, activation: str, state: dict[str, Any]) -> tuple[str, Original]:
    """The dictionary of tensors and names that OpenAI's Autoencoder.state_dict gives;

    latents = activation(encoder(LN(x) - pre_bias) + latent_bias), x_hat = (decoder(latents) + pre_bias) * std + mean;
    LN, with the standard deviation of n - 1 values plus 1e-5, is done for TopK only.
    """
    w = {
        "pre_bias": normal(D),
        "latent_bias": normal(N),
        "stats_last_nonzero": torch.zeros(N, dtype=torch.long),
        "latents_activation_frequency": torch.rand(N),
        "latents_mean_square": torch.rand(N),
        "encoder.weight": normal(N, D),
        "decoder.weight": normal(D, N),
    }
    torch_file(root / "autoencoders" / "4.pt", {**w, "activation": activation, "activation_state_dict": state})

    def original(x: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = torch.zeros(len(x), 1), torch.ones(len(x), 1)
        if activation == "TopK":
            mean = x.mean(1, keepdim=True)
            std = x.std(1, keepdim=True)
        z = (x - mean) / (std + 1e-5 if activation == "TopK" else 1) - w["pre_bias"]
        pre = z @ w["encoder.weight"].T + w["latent_bias"]
        acts = pre.relu()
        if activation == "TopK":
            kept = pre.topk(state["k"], dim=1)
            acts = torch.zeros_like(pre).scatter_(1, kept.indices, kept.values.relu())
        return acts, (acts @ w["decoder.weight"].T + w["pre_bias"]) * std + mean

    return "autoencoders/4.pt", original


@case("openai-relu")
def openai_relu(root: Path) -> tuple[str, Original]:
    return openai(root, "ReLU", {})


@case("openai-topk")
def openai_topk(root: Path) -> tuple[str, Original]:
    return openai(root, "TopK", {"k": K, "postact_fn": "ReLU"})
