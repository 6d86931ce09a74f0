"""Whether a folder or a configuration is a model that TransformerLens boots, asked before its weights are read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from typing_extensions import TypedDict

from ..errors import ConfigError, FileError
from ..json_files import read_json
from .hub import has_weights

COMMON: tuple[str, ...] = (
    "GPT2LMHeadModel",
    "GPTNeoXForCausalLM",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "MambaForCausalLM",
)
COMMON += ("Gemma3ForCausalLM", "Olmo2ForCausalLM", "OPTForCausalLM", "Phi3ForCausalLM", "Qwen3ForCausalLM")


class ModelConfig(TypedDict, total=False):
    """What is read here of a config.json; the rest is transformers' own."""

    architectures: list[str] | None
    model_type: str | None
    original_architecture: str | None


def check_folder(name: str | Path, folder: Path) -> None:
    """FileError that says what `folder` lacks, ConfigError for an architecture that TransformerLens has not."""
    files = sorted(path.name for path in folder.iterdir())
    if "config.json" not in files:
        raise _no_model(name, "no config.json", files)
    config = read_json(folder / "config.json", ModelConfig, fix="it is damaged: fetch it again")
    check_config(name, config)
    if not has_weights(folder):
        parts = any(f.endswith((".safetensors.index.json", ".bin.index.json")) for f in files)
        raise _no_model(name, "a part of its weights is missing" if parts else "no weights", files)


def check_config(name: str | Path, config: dict[str, Any]) -> None:
    """ConfigError when TransformerLens has no adapter for the architecture that a config.json names.

    >>> from saekit.models.checking import check_config
    >>> check_config("mine", {"architectures": ["LlamaForCausalLM"], "model_type": "llama"})
    """
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
    from transformer_lens.model_bridge.sources._hf_format import determine_architecture_from_hf_config
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    known = {key: config[key] for key in ("architectures", "model_type", "original_architecture") if config.get(key)}
    architecture = ", ".join(known.get("architectures", [])) or known.get("model_type")
    if architecture is None:
        raise FileError(
            f"config.json of {name} does not say what kind of model it is",
            got=", ".join(sorted(config)) or "an empty file",
            accepted="architectures and model_type",
        )
    try:
        determine_architecture_from_hf_config(SimpleNamespace(**known))  # type: ignore[no-untyped-call]
    except ValueError as e:
        common = ", ".join(a for a in COMMON if a in SUPPORTED_ARCHITECTURES)
        raise ConfigError(
            f"TransformerLens has no {architecture}",
            got=f"{name}: architectures {known.get('architectures')}, model_type {known.get('model_type')}",
            accepted=f"{len(SUPPORTED_ARCHITECTURES)} architectures, such as {common}",
            fix="take a model of one of these, or register an adapter with TransformerLens' ArchitectureAdapterFactory",
        ) from e
    if "auto_map" in config and known.get("model_type") not in CONFIG_MAPPING:
        raise ConfigError(
            f"{name} brings Python code of its own, which load_model does not run",
            got=f"auto_map, model_type {known.get('model_type')}",
            accepted="models whose code is part of transformers, or a model that is loaded already",
            fix="load it with transformers (trust_remote_code=True) and pass the model and its tokenizer",
        )


def _no_model(name: str | Path, lack: str, files: list[str]) -> FileError:
    fix = "check the path, or save the model there with save_pretrained"
    gguf = [f for f in files if f.lower().endswith(".gguf")]
    if gguf:
        fix = f"pass the file itself: {Path(name) / gguf[0]}"
    elif "adapter_config.json" in files:
        fix = "this is an adapter: load it with peft and save model.merge_and_unload()"
    return FileError(
        f"{name} holds no model: {lack}",
        got=", ".join(files[:12]) or "an empty folder",
        accepted="config.json and model.safetensors (or its parts and their index)",
        fix=fix,
    )
