"""The architectures by name: those that come with saekit, and those that users register."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ...errors import ConfigError, unknown_name
from .architecture import Architecture
from .batchtopk import BatchTopK
from .gated import Gated
from .jumprelu import JumpReLU
from .kl import KL
from .options import OPTIONS
from .relu import ReLU
from .topk import TopK

if TYPE_CHECKING:
    from ..config import SAEConfig

BUILT_IN: tuple[Architecture, ...] = (ReLU(), KL(), TopK(), BatchTopK(), JumpReLU(), Gated())
ARCHITECTURES: dict[str, Architecture] = {architecture.name: architecture for architecture in BUILT_IN}
"""Every architecture by its name. `register_architecture` adds to it."""
Kind = TypeVar("Kind", bound=type[Architecture])


def get_architecture(name: str) -> Architecture:
    """The architecture of that name; UnknownNameError for another."""
    if name not in ARCHITECTURES:
        raise unknown_name("architecture", name, ARCHITECTURES)
    return ARCHITECTURES[name]


def register_architecture(kind: Kind) -> Kind:
    """Adds an architecture of one's own, a subclass of sk.sae.Architecture; also as a decorator. Returns the class.

    SAEs of it train, save and load like the others, while the class is registered. Its cell can be run again: a class
    of the same module and name replaces the one before. ConfigError for a name that is taken.

    >>> @sk.register_architecture
    ... class Absolute(sk.sae.Architecture):
    ...     name = "absolute"
    ...
    ...     def acts(self, pre_acts, sae, features=None):
    ...         return torch.where(pre_acts.abs() > 1, pre_acts.abs(), 0.0)
    >>> sk.SAE(sk.SAEConfig(d_in=8, d_sae=32, activation="absolute")).encode(torch.zeros(2, 8)).shape
    torch.Size([2, 32])
    """
    if not (isinstance(kind, type) and issubclass(kind, Architecture)):
        raise ConfigError(
            "not an architecture",
            got=repr(kind),
            accepted="a subclass of sk.sae.Architecture",
            fix="pass the class itself, not an instance of it",
        )
    name = vars(kind).get("name")
    if not isinstance(name, str) or not name.replace("_", "").isalnum():
        raise ConfigError(
            f"{kind.__name__} has no usable name",
            got=repr(name),
            accepted="letters, digits and underscores",
            fix=f'write name = "{kind.__name__.lower()}" in the class',
        )
    if missing := sorted(getattr(kind, "__abstractmethods__", ())):
        raise ConfigError(
            f"{kind.__name__} lacks {', '.join(missing)}",
            got="an abstract class",
            accepted="a class that defines acts(self, pre_acts, sae, features=None)",
            fix="define what is missing",
        )
    if unknown := [option for option in (*kind.options, *kind.needs) if option not in OPTIONS]:
        raise unknown_name("option of architectures", unknown[0], OPTIONS)
    taken = ARCHITECTURES.get(name)
    if taken is not None and _qualified(type(taken)) != _qualified(kind):
        raise ConfigError(
            f"the name {name!r} is taken",
            got=_qualified(kind),
            accepted=f"a name other than {', '.join(ARCHITECTURES)}",
            fix=f"choose another name: {name!r} is {_qualified(type(taken))}",
        )
    ARCHITECTURES[name] = kind()
    return kind


def with_option(option: str) -> list[str]:
    """The names of the architectures that have an option of SAEConfig.

    >>> from saekit.sae.architectures import with_option
    >>> with_option("l0_penalty")
    ['jumprelu']
    """
    return [architecture.name for architecture in ARCHITECTURES.values() if option in architecture.options]


def of_saelens() -> dict[str, Architecture]:
    """The architecture of files that say no more than SAELens' name, by that name, transcoders' included."""
    found: dict[str, Architecture] = {}
    for transcoder, skip in ((False, False), (True, False), (True, True)):
        for architecture in ARCHITECTURES.values():
            if architecture.saelens_default:
                found.setdefault(architecture.saelens_architecture(transcoder, skip), architecture)
    return found


def weight_shapes(config: SAEConfig) -> dict[str, tuple[int, ...]]:
    """The tensors that make up an SAE of this configuration, and their shapes."""
    architecture, n = config.architecture, config.d_sae
    shapes: dict[str, tuple[int, ...]] = {"W_enc": (config.d_in, n), "W_dec": (n, config.width_out)}
    shapes |= {"b_enc": (n,), "b_dec": (config.width_out,)}
    threshold = ("threshold",) if architecture.has_threshold else ()
    shapes |= dict.fromkeys((*threshold, *architecture.extra_parameters), (n,))
    return shapes | ({"W_skip": (config.d_in, config.width_out)} if config.skip else {})


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
