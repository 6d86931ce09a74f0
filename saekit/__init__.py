"""saekit: sparse autoencoder features in Jupyter.

Text, tokens, activations, features, evidence: data flows one way through the public names, which stand in
`__init__.pyi`. Each is imported when it is first used (SPEC 1 of Scientific Python), so that importing saekit loads
neither torch nor anything else that is heavy, and has no effect: no network, no seeds, no threads.
"""

import importlib
import importlib.util

import lazy_loader

from .errors import unknown_name

_load_name, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in __all__:
        return _load_name(name)
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if importlib.util.find_spec(f"{__name__}.{name}") is not None:  # a package or module that is not public itself
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(str(unknown_name("name in saekit", name, __all__)))
