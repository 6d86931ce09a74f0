"""Small SAEs in the files of every family, and what the original libraries make of them.

    cd scripts && ../.venv-interop/bin/python -m originals FOLDER

Run by scripts/interop_families.py in the environment of the original libraries; knows nothing of saekit. FOLDER gets
x.safetensors (the activations), and of each case a folder with its files as they are published, NAME.safetensors with
the original's features and reconstructions, and an entry in cases.json.

Where the library trains SAEs it writes the files itself. Where it only loads what others published (Gemma Scope,
Llama Scope), the files are written as published and its loader reads them. OpenAI's code is not on PyPI: its formula
is written out, from sparse_autoencoder/model.py of openai/sparse_autoencoder.
"""

import sys
import types
from typing import Any


class _StandIn(types.ModuleType):
    """A module whose every name is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


for name in ("nnsight", "schedulefree"):
    sys.modules[name] = _StandIn(name)  # imported by modules that gather activations, or train; not used here
