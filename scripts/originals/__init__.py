"""Small SAEs in the files of every family, and what the original libraries make of them.

    cd scripts && ../.venv-interop/bin/python -m originals FOLDER

Run by scripts/interop_families.py in the environment of the original libraries; knows nothing of saekit. FOLDER gets
x.safetensors (the activations), and of each case a folder with its files as they are published, NAME.safetensors with
the original's features and reconstructions, and an entry in cases.json.

Where the library trains SAEs it writes the files itself. Where it only loads what others published (Gemma Scope,
Llama Scope), the files are written as published and its loader reads them. OpenAI's code is not on PyPI: its formula
is written out, from sparse_autoencoder/model.py of openai/sparse_autoencoder.
"""

import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any, ClassVar

NOT_NEEDED = ("nnsight", "schedulefree", "gridfs", "pymongo", "bson", "openai")
"""Packages that the libraries import to gather activations, train or store, which nothing here does."""


class _StandIn(types.ModuleType):
    """A module whose every name is an empty class."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a stand-in for every package that is not needed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        wanted = name.partition(".")[0] in NOT_NEEDED
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if wanted else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


sys.meta_path.insert(0, _StandIns())
