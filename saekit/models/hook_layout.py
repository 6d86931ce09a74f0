"""Which axis of an activation is which, measured: some hook points have the heads before the positions.

The model runs over two inputs of different batch and length; an axis that follows the one is the batch, one that
follows the other the positions. Names say nothing of it, and architectures differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from jaxtyping import Float
from torch import Tensor

from ..errors import MismatchError

PROBES = ((2, 3), (3, 5))
"""Batch and length of the two inputs."""


@dataclass(frozen=True)
class HookLayout:
    """How the activation at a hook point becomes one vector for each token, and back."""

    positions: int
    """The axis of the positions; that of the batch is the first."""
    width: int
    """Numbers for each token."""

    def flatten(self, x: Tensor) -> Float[Tensor, "batch pos d"]:
        """The activation with positions as its second axis, and all that belongs to a token side by side.

        >>> from saekit.models.hook_layout import HookLayout
        >>> HookLayout(positions=2, width=32).flatten(torch.zeros(1, 4, 7, 8)).shape
        torch.Size([1, 7, 32])
        """
        return x.movedim(self.positions, 1).flatten(2)

    def restore(self, flat: Float[Tensor, "batch pos d"], like: Tensor) -> Tensor:
        """The activation that `flatten` made `flat` of, in the shape of `like`."""
        return flat.reshape(like.movedim(self.positions, 1).shape).movedim(1, self.positions)


def find_layout(name: str, shapes: Sequence[Sequence[tuple[int, ...]]], names: Sequence[str]) -> HookLayout:
    """The layout of an activation from its shapes in both PROBES, one for each time that the hook point ran.

    Raises MismatchError where it never ran, ran several times, or does not hold one vector of fixed width for each
    token; `names` are the model's hook points, of which the error names one to read instead.
    """
    first, second = shapes
    if not first or not second:
        raise _refused(f"{name} never fires", "no activation in a plain forward pass", name, names)
    if len(first) > 1 or len(second) > 1:
        got = f"{len(first)} activations in one forward pass"
        raise _refused(f"{name} runs more than once in a pass, so a token has several vectors there", got, name, names)
    kinds = [
        "batch" if pair == (PROBES[0][0], PROBES[1][0]) else "pos" if pair == (PROBES[0][1], PROBES[1][1]) else pair
        for pair in zip(first[0], second[0], strict=False)
    ]
    rest = [kind for kind in kinds if kind not in ("batch", "pos")]
    one_each = kinds[:1] == ["batch"] and kinds.count("batch") == kinds.count("pos") == 1
    if len(first[0]) != len(second[0]) or not one_each or not rest or any(pair[0] != pair[1] for pair in rest):
        got = " and ".join(
            f"{list(shape)} for {batch} texts of {length} tokens"
            for (shape,), (batch, length) in zip(shapes, PROBES, strict=True)
        )
        raise _refused(f"the activation at {name} is not one vector of fixed width for each token", got, name, names)
    return HookLayout(kinds.index("pos"), prod(int(pair[0]) for pair in rest))


def _refused(what: str, got: str, name: str, names: Sequence[str]) -> MismatchError:
    module, _, _ = name.rpartition(".")
    block = ".".join(name.split(".")[:2]) if name.startswith("blocks.") else "blocks.0"
    beside = [f"{module}.{point}" for point in ("hook_z", "hook_out", "hook_in")] + [f"{block}.hook_out"]
    neighbour = next((n for n in beside if n in names and n != name), names[0] if names else "another")
    return MismatchError(
        what, got=got, accepted="a hook point with one vector for each token", fix=f"read {neighbour} instead"
    )
