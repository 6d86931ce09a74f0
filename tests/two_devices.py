"""A second device that is not there: tensors that say they are on "pretend:0" and lie on the CPU.

Under `two_devices()` an operation on tensors of both devices raises, as a GPU's would, with the exceptions that it
makes: copies, numbers without dimensions, and indices on the CPU. A generator of the CPU draws nothing on the other
device, and `numpy` needs `.cpu()` first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("pretend")
OTHER = torch.device("pretend:0")
CPU = torch.device("cpu")
aten = torch.ops.aten
COPIES = {aten._to_copy, aten.copy_, aten.copy, aten.to}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}


class OtherGenerator(torch.Generator):
    """A generator for OTHER."""


class OtherTensor(torch.Tensor):
    """A tensor on OTHER; `held` has its numbers on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Any:
        with torch.inference_mode(held.is_inference()):
            made = torch.Tensor._make_wrapper_subclass(
                cls, held.shape, strides=held.stride(), dtype=held.dtype, device=OTHER, requires_grad=False
            )
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def __repr__(self) -> str:
        return f"OtherTensor({tuple(self.shape)}, {self.dtype})"

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Makes tensors on OTHER where they are asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    given = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    packet = func.overloadpacket
    there = [t for t in given if isinstance(t, OtherTensor)]
    judged = given
    if packet in INDEXED:
        judged = [args[0], *(a for a in args[2:] if isinstance(a, torch.Tensor))]
        if not isinstance(args[0], OtherTensor):
            judged += [i for i in args[1] if i is not None]
    on_cpu = [t for t in judged if not isinstance(t, OtherTensor) and t.dim() > 0]
    if packet not in COPIES and on_cpu and any(isinstance(t, OtherTensor) for t in judged):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found pretend:0 and cpu! ({func})")
    asked = [
        (args[i] if i < len(args) else kwargs.get(spec.name))
        for i, spec in enumerate(func._schema.arguments)
        if spec.name == "device"
    ]
    device = OTHER if there else torch.device("cpu")
    if asked and asked[0] is not None:
        device = torch.device(asked[0])
    elif packet is aten.copy_ or func is aten.to.other:
        decides = args[1] if func is aten.to.other else args[0]
        device = OTHER if isinstance(decides, OtherTensor) else torch.device("cpu")
    drawn_by = kwargs.get("generator")
    if drawn_by is not None and (device.type == OTHER.type) != isinstance(drawn_by, OtherGenerator):
        raise RuntimeError(f"the generator and the numbers that it draws are on two devices ({func})")
    args, kwargs = tree_map(lambda a: CPU if isinstance(a, torch.device) else a, (args, kwargs))
    plain_args, plain_kwargs = tree_map(lambda t: t.held if isinstance(t, OtherTensor) else t, (args, kwargs))
    found = func(*plain_args, **plain_kwargs)
    mutated = [a for a, spec in zip(args, func._schema.arguments, strict=False) if _written(spec)]
    mutated += [kwargs[spec.name] for spec in func._schema.arguments if _written(spec) and spec.name in kwargs]
    if (mutated and func._schema.name.endswith("_")) or "out" in kwargs:
        return mutated[0] if len(mutated) == 1 else tuple(mutated)
    if device.type != OTHER.type:
        return found
    return tree_map(lambda t: OtherTensor(t) if isinstance(t, torch.Tensor) else t, found)


def _written(spec: Any) -> bool:
    return spec.alias_info is not None and spec.alias_info.is_write


class _OfEitherDevice(type(torch.Generator)):  # type: ignore[misc]
    def __instancecheck__(cls, one: object) -> bool:
        return isinstance(one, _PLAIN)

    def __call__(cls, device: Any = "cpu") -> Any:
        return OtherGenerator() if torch.device(device).type == OTHER.type else _PLAIN()


_PLAIN = torch.Generator


class _Generators(metaclass=_OfEitherDevice):
    """torch.Generator for both devices."""


@contextmanager
def two_devices() -> Iterator[str]:
    """The name of the other device, which is there within the block."""
    before, plain = torch._C._only_lift_cpu_tensors(), torch.Generator
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        torch.Generator = _Generators  # type: ignore[misc, assignment]
        with _Factories():
            yield str(OTHER)
    finally:
        torch.Generator = plain  # type: ignore[misc]
        torch._C._set_only_lift_cpu_tensors(before)
