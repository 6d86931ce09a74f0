"""From a name, a folder, a file or a bridge to a LanguageModel.

Finds models and converts them; what one can do is in `language_model`.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..atomic_io import sha256
from ..errors import ConfigError, FileError, SaekitError, unknown_name
from .default_model import NAME as DEFAULT_NAME
from .default_model import cache_dir, convert_gguf, damaged_file, default_model_folder
from .language_model import LanguageModel
from .weight_processing import process_weights


def load_model(
    name: str | Path | Any = DEFAULT_NAME,
    *,
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
    compatibility_mode: bool | str = False,
) -> LanguageModel:
    """A LanguageModel.

    `name` is the default model's name, any name or local folder that TransformerLens 4 boots, a .gguf file, or a ready
    TransformerBridge. The default needs the network once; `device="auto"` takes CUDA when it is there.
    compatibility_mode folds and centres the weights as TransformerLens' HookedTransformer did; a text such as
    "center_writing_weights" takes only that step (several with commas), as some published SAEs ask for. Raises
    UnknownNameError for an unknown model, FileError for a damaged or missing file.

    >>> sk.load_model(model.bridge).hook_width("blocks.1.hook_mlp_out")
    32
    """
    from transformer_lens.model_bridge import TransformerBridge

    if isinstance(name, LanguageModel):
        return name
    if isinstance(name, TransformerBridge):
        label = str(name.cfg.model_name).rstrip("/").rsplit("/", 1)[-1]
        return LanguageModel(name, label, own_tokenizer(name.tokenizer))
    if not isinstance(name, (str, Path)):
        raise ConfigError(
            "not a model", got=type(name).__name__, accepted="a name, a folder, a .gguf file, a TransformerBridge"
        )
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    label, source = _source(name)
    try:
        with _quiet(Path(source).is_dir()):
            bridge = TransformerBridge.boot_transformers(str(source), device=where, dtype=dtype)
    except SaekitError:
        raise
    except Exception as e:
        if isinstance(name, Path) or Path(name).exists():
            raise FileError(f"{name} holds no model that TransformerLens can boot: {e}", got=name) from e
        reason = str(e).strip().split("\n")[0]
        fix = f"pass one of these, a local folder or a .gguf file (from the hub: {reason})"
        raise unknown_name("model", name, [DEFAULT_NAME, *_published_names()], fix=fix) from e
    if compatibility_mode:
        process_weights(bridge, compatibility_mode)
    return LanguageModel(bridge, label, own_tokenizer(bridge.tokenizer))


def own_tokenizer(tokenizer: Any) -> Any:
    """The tokenizer as its files have it. TransformerLens gives one without BOS, EOS or padding an EOS of its own, and
    that as the other two; such a model would get a token before its texts that it never saw there.

    One whose files are not at hand, or that was changed in other ways, comes back as it is.

    >>> from saekit.models.loading import own_tokenizer
    >>> own_tokenizer(model.tokenizer) is model.tokenizer
    True
    """
    from transformers import AutoTokenizer

    source = getattr(tokenizer, "name_or_path", "")
    if not source:
        return tokenizer
    try:
        own = AutoTokenizer.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError):
        return tokenizer
    has, had = tokenizer.get_vocab(), own.get_vocab()
    invented = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token}
    same = all(has.get(token) == i for token, i in had.items()) and has.keys() - had.keys() <= invented
    return own if same else tokenizer


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
    path = Path(name).expanduser()
    if str(name).lower().endswith(".gguf"):
        if not path.is_file():
            raise FileError(f"no file {name}", got=name, accepted="a .gguf file", fix="check the path")
        return path.stem, _converted(path)
    if isinstance(name, Path) or str(name).startswith((".", "/", "~")):
        if not path.is_dir():
            raise FileError(f"no folder {name}", got=name, accepted="a model folder in Hugging Face's format")
        return path.resolve().name, path
    return (path.resolve().name, path) if path.is_dir() else (str(name), str(name))


def _converted(gguf: Path) -> Path:
    """The cached safetensors folder of a .gguf file, converted the first time it is seen."""
    folder = cache_dir() / "models" / f"{gguf.stem}-{sha256(gguf)[:12]}"
    if folder.is_dir() and damaged_file(folder) is None:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as part:
        convert_gguf(gguf, Path(part) / "new")
        if folder.exists():
            folder.rename(Path(part) / "damaged")
        (Path(part) / "new").rename(folder)
    return folder


def _published_names() -> list[str]:
    from transformer_lens.supported_models import MODEL_ALIASES, OFFICIAL_MODEL_NAMES

    return [*OFFICIAL_MODEL_NAMES, *(alias for aliases in MODEL_ALIASES.values() for alias in aliases)]
