"""The tokenizer of a model: as it was saved, or as the caller gave it, and never changed.

TransformerLens adds BOS, EOS and padding to a tokenizer that lacks them, even with ids that the model does not have, so
it is given a copy.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from ..errors import ConfigError, FileError
from .hub import cached_folder, find_on_hub, has_tokenizer


def given_tokenizer(tokenizer: Any) -> Any:
    """The Hugging Face tokenizer that the caller means: an object, or the folder or name to load it from."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return tokenizer
    if isinstance(tokenizer, Tokenizer):
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    if not isinstance(tokenizer, (str, Path)):
        raise ConfigError(
            "not a tokenizer",
            got=type(tokenizer).__name__,
            accepted="a tokenizer of transformers or tokenizers, or the folder or name of one",
            fix='pass tokenizer=AutoTokenizer.from_pretrained("...")',
        )
    path = Path(tokenizer).expanduser()
    if path.is_file():
        path = path.parent
    if not path.is_dir() and (isinstance(tokenizer, Path) or str(tokenizer).startswith((".", "/", "~"))):
        raise FileError(f"no folder {tokenizer}", got=tokenizer, accepted="a folder with a tokenizer's files")
    source = path if path.is_dir() else find_on_hub(str(tokenizer), list)
    found = find_tokenizer(source)
    if found is None:
        raise FileError(
            f"{tokenizer} holds no tokenizer", got=tokenizer, accepted="tokenizer.json or its like, with a vocabulary"
        )
    return found


def find_tokenizer(source: str | Path) -> Any:
    """The tokenizer in a folder, or of a name on the hub; None where there is none.

    FileError when there is one that cannot be read.
    """
    from transformer_lens.utilities.hf_utils import autotokenizer_with_special_token_compat

    if isinstance(source, Path) and not has_tokenizer(source):
        return None
    try:
        tokenizer = autotokenizer_with_special_token_compat(str(source))
    except Exception as e:
        folder = source if isinstance(source, Path) else cached_folder(source)
        if folder is None or not has_tokenizer(folder):
            return None
        raise FileError(
            f"the tokenizer of {source} cannot be read: {type(e).__name__}: {str(e).strip()}",
            got=source,
            accepted="the files of a tokenizer that transformers reads",
            fix="pass another: sk.load_model(..., tokenizer=...)",
        ) from e
    return tokenizer if set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids) else None


def tokenizer_beside(model: Any) -> Any:
    """The tokenizer of the folder, or of the copy in the hub's cache, that a Hugging Face model came from, or None."""
    name = getattr(model, "name_or_path", "") or ""
    if not name:
        return None
    folder = Path(name) if Path(name).is_dir() else None
    if folder is None:
        try:
            folder = cached_folder(name)
        except ValueError:  # no name of the hub
            return None
    return None if folder is None else find_tokenizer(folder)


def untouched(tokenizer: Any) -> Any:
    """A bridge's tokenizer as its files have it, without the BOS, EOS and padding that TransformerLens invents.

    One whose files are not at hand, or that was changed in other ways, comes back as it is; so does None.

    >>> from saekit.models.tokenizers import untouched
    >>> untouched(model.tokenizer) is model.tokenizer
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


def for_transformer_lens(tokenizer: Any) -> Any:
    """A tokenizer that TransformerLens may change: a copy, or where there is none one of a single word."""
    if tokenizer is not None:
        return copy.deepcopy(tokenizer)
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"?": 0}, unk_token="?")), eos_token="?")
