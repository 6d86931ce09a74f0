"""Hook points: one place in a model, or several read side by side.

A hook point is a name, or a tuple of names whose activations stand beside each other along the last dimension, in that
order. Names are only taken apart and put together here, without a model.
"""

from __future__ import annotations

from .errors import ConfigError

HookPoint = str | tuple[str, ...]
"""A hook point's name, or a tuple of names."""


def hook_names(hook_point: HookPoint) -> tuple[str, ...]:
    """The names in a hook point, one or several. ConfigError for anything else, for none and for one named twice.

    >>> from saekit.hook_points import hook_names
    >>> hook_names("blocks.0.hook_in"), hook_names(("blocks.0.hook_in", "blocks.1.hook_in"))
    (('blocks.0.hook_in',), ('blocks.0.hook_in', 'blocks.1.hook_in'))
    """
    names = (hook_point,) if isinstance(hook_point, str) else hook_point
    if not isinstance(names, tuple) or not names or not all(isinstance(n, str) for n in names):
        raise ConfigError(
            "not a hook point",
            got=repr(hook_point),
            accepted="a name, or a tuple of names to read side by side",
            fix='pass "blocks.0.hook_resid_post", or ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")',
        )
    if len(set(names)) < len(names):
        raise ConfigError(
            "a hook point is named twice", got=", ".join(names), accepted="each name once", fix="leave one out"
        )
    return names


def hook_text(hook_point: HookPoint) -> str:
    """A hook point as text: its names with commas between.

    >>> from saekit.hook_points import hook_text
    >>> hook_text(("blocks.0.hook_in", "blocks.1.hook_in"))
    'blocks.0.hook_in, blocks.1.hook_in'
    """
    return hook_point if isinstance(hook_point, str) else ", ".join(hook_point)
