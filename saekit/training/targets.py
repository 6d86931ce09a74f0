"""What is trained where: configurations and hook points in, the SAEs of a run and what each reads and writes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from ..activations import ActivationBatches
from ..errors import ConfigError, MismatchError
from ..hook_points import HookPoint, hook_names, hook_text
from ..sae import SAE, SAEConfig, TokenFilter
from .config import TrainConfig
from .trainer import Trainer

HookPoints = HookPoint | list[str] | list[tuple[str, ...]] | list[HookPoint]
"""A hook point, or a list of several at each of which every configuration is trained."""


def listed(sae: SAEConfig | Sequence[SAEConfig]) -> list[SAEConfig]:
    """One configuration or several as a list; ConfigError for anything else and for none."""
    configs = list(sae) if isinstance(sae, Iterable) else [sae]
    if not configs:
        raise ConfigError(
            "no SAE to train", got=sae, accepted="an SAEConfig or a list of them", fix="pass sae=sk.SAEConfig(...)"
        )
    for c in configs:
        if not isinstance(c, SAEConfig):
            raise ConfigError(
                "not an SAE's configuration",
                got=type(c).__name__,
                accepted="an SAEConfig or a list of them",
                fix="pass sae=sk.SAEConfig(...); sk.Trainer trains an SAE that is there further",
            )
    return configs


def placed(sae: SAEConfig | Sequence[SAEConfig], where: HookPoints | None) -> list[SAEConfig]:
    """One configuration for each SAE to train, each with its hook point.

    Every configuration at the first hook point of `where`, then every one at the second, and so on. One that names a
    hook point of its own is trained there only, and last where `where` does not have it.

    >>> from saekit.training.targets import placed
    >>> free, own = sk.SAEConfig(d_in=8, d_sae=32, k=4), sk.SAEConfig(d_in=8, d_sae=64, k=4, hook_name="b")
    >>> [(c.hook_name, c.d_sae) for c in placed([free, own], ["a", "b"])]
    [('a', 32), ('b', 32), ('b', 64)]
    """
    configs = listed(sae)
    asked: list[HookPoint] = [] if where is None else list(where) if isinstance(where, list) else [where]
    if where is not None and len({hook_names(hook) for hook in asked}) < max(len(asked), 1):
        raise ConfigError(
            "the hook points to train at are not distinct",
            got=[hook_text(h) for h in asked],
            accepted="one or more, each once",
            fix="leave the repeated ones out",
        )
    out = []
    for hook in asked:
        here = [c if c.hook_name else c.replace(hook_name=hook) for c in configs if c.hook_name in (None, hook)]
        if not here:
            raise ConfigError(
                f"nothing is to be trained at {hook_text(hook)}",
                got="configurations of " + "; ".join(dict.fromkeys(hook_text(c.hook_name or "") for c in configs)),
                accepted="a configuration with hook_name None or this one",
                fix="pass config.replace(hook_name=None), or leave this hook point out",
            )
        out += here
    out += [c for c in configs if c.hook_name not in asked and (c.hook_name is not None or not asked)]
    for c in out:
        if c.is_transcoder and (c.hook_out is None or c.hook_out == c.hook_name):
            raise ConfigError(
                "a transcoder reconstructs another hook point than it reads",
                got=f"hook_out = {c.hook_out}",
                accepted="the name of a hook point",
                fix='pass, for example, SAEConfig(hook_out="blocks.15.mlp.hook_out", ...)',
            )
    return out


def ends(sae: SAEConfig) -> tuple[HookPoint, ...]:
    """The hook point an SAE reads and, of a transcoder, the one it writes."""
    assert sae.hook_name is not None
    return (sae.hook_name, sae.hook_out) if sae.hook_out is not None else (sae.hook_name,)


def all_hooks(saes: Sequence[SAEConfig]) -> HookPoint:
    """The hook points that all of these need together, each once, in order of appearance."""
    names = tuple(dict.fromkeys(name for c in saes for end in ends(c) for name in hook_names(end)))
    return names[0] if len(names) == 1 else names


def check_widths(sae: SAEConfig, batches: ActivationBatches) -> None:
    """MismatchError unless the SAE is as wide as the activations it is to reconstruct."""
    widths = [batches.width(end) for end in ends(sae)]
    for end, name, width, mine in zip(ends(sae), ("d_in", "d_out"), widths, (sae.d_in, sae.width_out), strict=False):
        if width != mine:
            raise MismatchError(
                f"activations at {hook_text(end)} are of another width than the SAE",
                got=width,
                accepted=mine,
                fix=f"pass SAEConfig({name}={width}, ...)",
            )


def token_filter_of(sae: SAEConfig, batches: ActivationBatches) -> TokenFilter:
    """The token filter that goes with an SAE: that of what it reads and, of a transcoder, of what it writes too."""
    return batches.token_filter_at(tuple(name for end in ends(sae) for name in hook_names(end)))


class TrainingTarget(NamedTuple):
    """A Trainer and the hook points whose activations it takes."""

    trainer: Trainer
    ends: tuple[HookPoint, ...]

    @classmethod
    def of(cls, sae: SAEConfig, config: TrainConfig, batches: ActivationBatches) -> TrainingTarget:
        """A Trainer of a new SAE."""
        blocks = [batches.width(name) for name in hook_names(ends(sae)[0])] if sae.is_crosscoder else None
        return cls(Trainer(SAE(sae), config, blocks=blocks), ends(sae))


class HookSplitter:
    """Cuts a batch into what each hook point gives, once for all who read there."""

    def __init__(self, targets: Sequence[TrainingTarget], batches: ActivationBatches) -> None:
        found = {end: batches.columns(end) for f in targets for end in f.ends}
        self._columns = {end: at if isinstance(at, slice) else at.to(batches.device) for end, at in found.items()}
        self._whole = slice(0, batches.d_in)

    def split(self, x: Float[Tensor, "batch d"]) -> Mapping[HookPoint, Tensor]:
        """The activations of each hook point; x itself where that is all of it."""
        return {end: x if at == self._whole else x[:, at].contiguous() for end, at in self._columns.items()}
