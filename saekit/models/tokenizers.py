"""The tokenizer of a model: as it was saved, or as the caller gave it, and never changed.

TransformerLens loads a tokenizer that it is given anew from where it came, and adds BOS, EOS and padding to one that
lacks them, even with ids that the model does not have. So it boots with another, and gets a copy afterwards.
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


def stand_in() -> Any:
    """A tokenizer of one word for TransformerLens to boot with: it would load the given one anew, with a BOS."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"?": 0}, unk_token="?")), eos_token="?")


def put_into(bridge: Any, tokenizer: Any) -> None:
    """Gives `bridge` a copy of `tokenizer`, or None, in place of the stand-in; no token is invented."""
    from transformer_lens.model_bridge.sources._bridge_builder import detect_tokenizer_bos_eos

    own = copy.deepcopy(tokenizer)
    if own is not None:
        own.padding_side = getattr(bridge.cfg, "default_padding_side", None) or own.padding_side or "right"
        if own.pad_token is None and own.eos_token is not None:
            own.pad_token = own.eos_token
        bridge.cfg.tokenizer_prepends_bos, bridge.cfg.tokenizer_appends_eos = detect_tokenizer_bos_eos(own)
    bridge._tokenizer = bridge._driver.tokenizer = own  # setting bridge.tokenizer would load it anew
