"""From a name, a folder, a file, a bridge or a Hugging Face model to a LanguageModel.

Finds models and converts them; what one can do is in `language_model`.
"""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..arguments import check_path
from ..atomic_io import sha256
from ..cache_folder import cache_dir
from ..errors import ConfigError, FileError, SaekitError, disk_errors
from ..output_folder import remove_leftovers, shared_result
from .checking import check_config, check_folder
from .default_model import NAME as DEFAULT_NAME
from .default_model import clear_leftovers, convert_gguf, damaged_file, default_model_folder
from .hub import find_on_hub, no_connection
from .language_model import LanguageModel
from .placement import find_device, find_dtype
from .ready_model import is_hugging_face_model, name_of, shared_copy
from .tokenizers import find_tokenizer, given_tokenizer, put_into, stand_in, tokenizer_beside, untouched
from .weight_processing import process_weights


def load_model(
    name: str | Path | Any = DEFAULT_NAME,
    *,
    tokenizer: Any = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype | None = None,
    compatibility_mode: bool | str = False,
) -> LanguageModel:
    """A LanguageModel.

    `name` is the default model's name, any name or local folder that TransformerLens 4 boots, a .gguf file, a model of
    transformers that is loaded already, or a TransformerBridge. A name that is in Hugging Face's cache is taken from
    there without asking the hub.

    `tokenizer` is a tokenizer of transformers, or the folder or name of one, in place of the model's own or where it
    has none; a model without one takes token ids. Neither it nor a model that is passed is changed: a copy that shares
    the weights is what gets hooks.

    `device` is "auto", which is CUDA where there is one, or like "cpu", "cuda:1", "mps". `dtype` is one of torch's or
    its name, float32 when left out. A model that is passed stays on its device and in its dtype unless told.
    compatibility_mode folds and centres the weights as TransformerLens' HookedTransformer did; a text such as
    "center_writing_weights" takes only that step (several with commas), as some published SAEs ask for.

    Raises UnknownNameError for an unknown model, FileError for a damaged, missing or unreachable one, ConfigError for
    an architecture, device or dtype that cannot be had here.

    >>> sk.load_model(model.bridge).hook_width("blocks.1.hook_mlp_out")
    32
    >>> sk.load_model(model.bridge, tokenizer=model.tokenizer).decode([7, 8])
    '23'
    """
    name = getattr(name, "_orig_mod", name)  # what torch.compile wraps
    own = None if tokenizer is None else given_tokenizer(tokenizer)
    if isinstance(name, (str, Path)):
        return _from_files(name, own, device, dtype, compatibility_mode)
    if is_hugging_face_model(name):
        ready = shared_copy(name, device, dtype, own_weights=bool(compatibility_mode))
        own = tokenizer_beside(name) if own is None else own
        first = next(ready.parameters())
        check_config(name_of(name), ready.config.to_dict())
        bridge = _boot(name_of(name), own, first.device, first.dtype, ready)
        return _finished(bridge, name_of(name), own, compatibility_mode)
    return _from_bridge(name, own, device, dtype, compatibility_mode)


def _from_files(
    name: str | Path,
    own: Any,
    device: str | torch.device,
    dtype: str | torch.dtype | None,
    compatibility_mode: bool | str,
) -> LanguageModel:
    where = find_device(device)
    precision = find_dtype("float32" if dtype is None else dtype, where)
    label, source = _source(name)
    if isinstance(source, Path):
        check_folder(name, source)
    with _explained(name, source):
        if isinstance(source, str):
            check_config(name, _config_on_hub(source))
        own = find_tokenizer(source) if own is None else own
        with _quiet(isinstance(source, Path)):
            bridge = _boot(str(source), own, where, precision)
    if isinstance(name, str) and not Path(name).exists() and label == name:
        bridge.cfg.model_name = name  # and not the folder in the cache
    return _finished(bridge, label, own, compatibility_mode)


def _boot(name: str, own: Any, device: torch.device, dtype: torch.dtype, ready: Any = None) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(name, device=device, dtype=dtype, tokenizer=stand_in(), hf_model=ready)
    put_into(bridge, own)
    return bridge


def _finished(bridge: Any, label: str, own: Any, compatibility_mode: bool | str) -> LanguageModel:
    if compatibility_mode:
        process_weights(bridge, compatibility_mode)
    return LanguageModel(bridge, label, own)


def _from_bridge(
    given: Any, own: Any, device: str | torch.device, dtype: str | torch.dtype | None, compatibility_mode: bool | str
) -> LanguageModel:
    """A LanguageModel around a bridge, or one that exists; both belong to the caller and are not moved or changed."""
    from transformer_lens.model_bridge import TransformerBridge

    model = given if isinstance(given, LanguageModel) else None
    if model is None and isinstance(given, TransformerBridge):
        label = str(given.cfg.model_name).rstrip("/").rsplit("/", 1)[-1]
        model = LanguageModel(given, label, untouched(given.tokenizer) if own is None else own)
    if model is None:
        raise _not_a_model(given)
    now = next(model.bridge.original_model.parameters())
    asked = {
        "device": device != "auto" and find_device(device) not in (now.device, torch.device(now.device.type)),
        "dtype": dtype is not None and find_dtype(dtype, now.device) != now.dtype,
        "compatibility_mode": bool(compatibility_mode) and model.weight_processing == "none",
        "tokenizer": own is not None and model is given and model.base is not model,
    }
    if any(asked.values()):
        raise ConfigError(
            "this model is ready, and load_model leaves it as it is",
            got=", ".join(name for name, changes in asked.items() if changes),
            accepted=f"the model as it is: {now.dtype} on {now.device}, weight processing {model.weight_processing}",
            fix="change the bridge before you pass it, or load the model from its name or folder",
        )
    return model if own is None or model is not given else LanguageModel(model.bridge, model.name, own)


def _not_a_model(given: Any) -> ConfigError:
    kind = type(given)
    fix = "pass one of these"
    if kind.__module__.split(".")[0] == "peft":
        fix = "pass model.merge_and_unload(): an adapter has to become part of its model"
    elif hasattr(given, "model") and hasattr(given, "tokenizer"):
        fix = f"pass what the {kind.__name__} holds: sk.load_model(x.model, tokenizer=x.tokenizer)"
    return ConfigError(
        "not a model",
        got=kind.__name__,
        accepted="a name, a folder, a .gguf file, a model of transformers, a TransformerBridge",
        fix=fix,
    )


@contextlib.contextmanager
def _explained(name: str | Path, source: str | Path) -> Iterator[None]:
    """Says what went wrong below: the disk, the connection or the files. Too little memory says so itself."""
    try:
        yield
    except (SaekitError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as e:
        if getattr(e, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EACCES):
            with disk_errors(str(getattr(e, "filename", None) or source)):
                raise
        lost = isinstance(source, str) and _connection_lost()
        raise (_broken_off(name, e) if lost else _unreadable(name, e)) from e


def _connection_lost() -> bool:
    from huggingface_hub import constants

    return no_connection(str(constants.ENDPOINT)) is not None


def _broken_off(name: str | Path, error: BaseException) -> FileError:
    return FileError(
        f"the connection was lost while {name} was fetched: {_reason(error)}",
        got=name,
        fix="connect and run the same call again: what has come is kept",
    )


def _unreadable(name: str | Path, error: BaseException) -> FileError:
    return FileError(
        f"{name} cannot be loaded: {_reason(error)}",
        got=name,
        accepted="config.json and weights that transformers and TransformerLens read",
        fix="load it with transformers to see more, and pass that model: sk.load_model(model, tokenizer=tokenizer)",
    )


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:500]}"


@contextlib.contextmanager
def _quiet(local: bool) -> Iterator[None]:
    """No progress bar for what is on the disk already; a download keeps its own."""
    from transformers.utils import logging

    if local and logging.is_progress_bar_enabled():
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.enable_progress_bar()
    else:
        yield


def _source(name: str | Path) -> tuple[str, str | Path]:
    """The name a model is known by, and the folder or hub name to boot."""
    if str(name).lower() == DEFAULT_NAME:
        return DEFAULT_NAME, default_model_folder()
    check_path("name", name)
    path = Path(name).expanduser()
    if str(name).lower().endswith(".gguf"):
        if not path.is_file():
            raise FileError(f"no file {name}", got=name, accepted="a .gguf file", fix="check the path")
        return path.stem, _converted(path)
    if isinstance(name, Path) or str(name).startswith((".", "/", "~")):
        if not path.is_dir():
            raise FileError(f"no folder {name}", got=name, accepted="a model folder in Hugging Face's format")
        return path.resolve().name, path
    return (path.resolve().name, path) if path.is_dir() else (str(name), _on_hub(str(name)))


def _on_hub(name: str) -> str | Path:
    from transformer_lens.tools.model_registry.registry_io import resolve_model_alias

    return find_on_hub(resolve_model_alias(name) or name, _published_names)


def _config_on_hub(name: str) -> dict[str, Any]:
    from transformers import PretrainedConfig

    return dict(PretrainedConfig.get_config_dict(name)[0])


def _converted(gguf: Path) -> Path:
    """The cached safetensors folder of a .gguf file, converted the first time it is seen."""
    folder = cache_dir() / "models" / f"{gguf.stem}-{sha256(gguf)[:12]}"
    if folder.is_dir() and damaged_file(folder) is None:
        clear_leftovers(folder)
        return folder
    with shared_result(folder, "a converted model"):
        remove_leftovers(folder.parent, [f".{folder.name}.*"])
        if folder.is_dir() and damaged_file(folder) is None:
            return folder
        with disk_errors(folder), tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as part:
            convert_gguf(gguf, Path(part) / "new")
            if folder.exists():
                folder.rename(Path(part) / "damaged")
            (Path(part) / "new").rename(folder)
    return folder


def _published_names() -> list[str]:
    from transformer_lens.supported_models import MODEL_ALIASES, OFFICIAL_MODEL_NAMES

    return [DEFAULT_NAME, *OFFICIAL_MODEL_NAMES, *(alias for aliases in MODEL_ALIASES.values() for alias in aliases)]
