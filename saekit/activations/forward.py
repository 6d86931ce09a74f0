"""Running the model over token windows: the activations of the tokens that a token filter keeps, in one pass.

On a GPU the host waits once for each run; all counting is done on the host.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ..corpus import Windows
from ..errors import DataError
from ..hook_points import HookPoint, hook_names
from ..models import LanguageModel
from ..sae import TokenFilter
from .excluded import ExclusionCounter
from .prefetch import to_device

WINDOWS_PER_RUN = 32
"""Windows in one run of the model: on two CPU cores the most tokens/s at 128 tokens a window."""


def kept_activations(
    model: LanguageModel,
    windows: Windows,
    rows: Int64[Tensor, " batch"],
    hook_name: HookPoint,
    token_filter: TokenFilter,
) -> tuple[Int64[Tensor, " n"], Float[Tensor, "n d_in"]]:
    """(position, x) of the tokens of some windows that `token_filter` keeps, after one run of the model.

    `position` is row * windows.length + place in the window, in the order of `rows`; `x` is float32 on the CPU. Raises
    DataError with the window, document and position when an activation is NaN or infinite.

    >>> windows = sk.tokenize(corpus, model, length=16)
    >>> position, x = sk.activations.kept_activations(model, windows, torch.tensor([2]), HOOK, sk.TokenFilter())
    >>> position[0].item(), x.shape
    (32, torch.Size([16, 32]))
    """
    position, x = WindowsForward(model, windows, rows, hook_name, token_filter).kept()
    return position, x.cpu()


class WindowsForward:
    """One run of the model over some windows, begun. On a GPU the host waits for it in `kept` and nowhere else.

    What the GPU finds out about the tokens, whether they are finite and within the token filter's norm, comes back in
    one copy; all counting is done on the host.
    """

    def __init__(
        self,
        model: LanguageModel,
        windows: Windows,
        rows: Int64[Tensor, " batch"],
        hook_name: HookPoint,
        token_filter: TokenFilter,
    ) -> None:
        self._model, self._windows, self._rows, self._hook_name = model, windows, rows, hook_name
        tokens, mask = windows.batch(rows)
        self._tokens, self._real = tokens, mask.bool()
        self._plain = self._real & ~torch.isin(tokens, torch.tensor(token_filter.special_ids, dtype=tokens.dtype))
        tokens, mask = to_device(tokens, model.device), to_device(mask, model.device)
        self._x = model.activations(tokens, hook_name, attention_mask=mask).float()
        within = replace(token_filter, special_ids=()).keep(tokens, self._x)
        found = torch.stack([self._x.isfinite().all(-1), within])
        self._found = found.to("cpu", non_blocking=found.is_cuda)
        self._arrived = torch.cuda.current_stream(found.device).record_event() if found.is_cuda else None

    def kept(
        self, into: Float[Tensor, "room d_in"] | None = None
    ) -> tuple[Int64[Tensor, " n"], Float[Tensor, "n d_in"]]:
        """(position, x) as `kept_activations` gives them, but x on the model's device, or in the first rows of `into`.

        DataError when an activation is NaN or infinite.
        """
        if self._arrived is not None:
            self._arrived.synchronize()
        finite, within = self._found[0] | ~self._real, self._found[1]
        if not finite.all():
            raise _not_finite(self._model, self._windows, self._rows, self._hook_name, self._x, finite)
        keep = within & self._plain
        position = self._rows[:, None] * self._windows.length + torch.arange(keep.shape[1])
        chosen = to_device(keep.flatten().nonzero()[:, 0], self._x.device)
        flat = self._x.flatten(0, 1)
        if into is None:
            return position[keep], flat[chosen]
        room = into[: len(chosen)]
        if into.device == flat.device:
            return position[keep], torch.index_select(flat, 0, chosen, out=room)
        return position[keep], room.copy_(to_device(flat[chosen], into.device))

    def norm_totals(self, counter: ExclusionCounter) -> Float[np.ndarray, "hooks 5"]:
        """How much of the norm the token filter leaves out, as `ExclusionCounter.norm_totals` has it; after `kept`."""
        real, keep = self._real.flatten(), (self._found[1] & self._plain).flatten()
        at = real.nonzero()[:, 0]
        x = self._x.flatten(0, 1)[to_device(at, self._x.device)]
        return counter.norm_totals(self._tokens.flatten()[at], x, keep[at])


def _not_finite(
    model: LanguageModel, windows: Windows, rows: Tensor, hook_name: HookPoint, x: Tensor, finite: Tensor
) -> DataError:
    """The error for activations x that are not finite: at which hook point, and in what text."""
    row, place = (~finite).nonzero()[0].tolist()
    column, names = int((~x[row, place].isfinite()).nonzero()[0]), hook_names(hook_name)
    ends = torch.tensor([model.hook_width(name) for name in names]).cumsum(0)
    window = int(rows[row])
    numbers = windows.documents[window]
    document = int(next((n for n in numbers[place:] if n >= 0), numbers.max()))  # a BOS counts with what follows
    return DataError(
        f"the activations at {names[int((ends <= column).sum())]} are not finite in window {window}, document "
        f"{document}, position {place}",
        got=x[row, place].max().item(),
        accepted="finite numbers",
        fix="look at that text and at the model's weights; a wider dtype helps when they overflow",
    )


def nothing_kept(windows: Windows, token_filter: TokenFilter) -> DataError:
    return DataError(
        "no token is left to train on: every one is excluded",
        got=f"{windows!r}, {token_filter.describe()}",
        fix="check that the text is not only special tokens, or pass another token filter",
    )
