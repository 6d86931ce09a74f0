"""Where activations come from: the protocol that training takes, and a model running over a text as one source.

A source says where its activations were read and gives shuffled batches of them. A model with a text
(ModelActivations), activations on disk (ActivationCache) and a function that draws them (StreamActivations) are
sources; a class of your own with these four members is one too, and `sk.train` takes it in place of a corpus.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self, runtime_checkable

import torch

from ..arguments import checks_arguments
from ..corpus import Corpus, Windows
from ..errors import ConfigError, MismatchError
from ..hook_points import HookPoint, hook_text
from ..models import LanguageModel
from .batches import ActivationBatches, activation_batches


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where activations were read; it becomes part of the configuration of an SAE that is trained on them."""

    model_name: str | None = None
    model_fingerprint: str | None = None
    """Sixteen digits of the model's weights."""
    weight_processing: str | None = None
    """"none" or "compatibility": how TransformerLens had prepared the weights."""
    context_size: int | None = None
    """Length of the token windows, in tokens."""
    prepend_bos: bool | None = None
    """Whether BOS stood before each window."""
    dataset: str | None = None
    """Name of the text."""


@runtime_checkable
class ActivationSource(Protocol):
    """What `sk.train` needs of activations.

    >>> isinstance(sk.cache_activations(model, corpus, HOOK, tmp_path, length=16, progress=False), sk.ActivationSource)
    True
    """

    @property
    def hook_name(self) -> HookPoint | None:
        """The hook point whose activations it gives, several side by side as a tuple; None: whichever `at` names."""

    @property
    def provenance(self) -> Provenance:
        """Where the activations were read."""

    def at(self, hook_name: HookPoint) -> ActivationSource:
        """The activations of one hook point, or of several, out of those that it has; MismatchError for others."""

    @checks_arguments
    def batches(
        self, batch_size: int, seed: int = 0, n_epochs: int | None = None, device: str | torch.device = "cpu"
    ) -> ActivationBatches:
        """Shuffled batches, the same for the same seed; `n_epochs` None repeats without end."""


@dataclass(frozen=True, kw_only=True)
class ModelActivations:
    """The activations of a text that the model runs over as batches are asked for."""

    model: LanguageModel
    text: Corpus | Windows
    hook_name: HookPoint | None = None
    length: int = 128
    """Of the token windows, in tokens."""
    buffer_tokens: int = 65_536
    """Tokens that are mixed at a time."""
    prepend_bos: bool | None = None
    """Whether windows of a Corpus begin with BOS. None: where the model's texts do."""

    @property
    def provenance(self) -> Provenance:
        return Provenance(
            model_name=self.model.name,
            model_fingerprint=self.model.fingerprint,
            weight_processing=self.model.weight_processing,
            context_size=self.length,
            prepend_bos=self._prepends_bos,
            dataset=self.text.name if isinstance(self.text, Corpus) else None,
        )

    @property
    def _prepends_bos(self) -> bool:
        if isinstance(self.text, Windows):
            return self.text.prepends_bos
        return self.model.begins_with_bos(self.prepend_bos)

    def at(self, hook_name: HookPoint) -> Self:
        return replace(self, hook_name=hook_name)

    def batches(
        self, batch_size: int, seed: int = 0, n_epochs: int | None = None, device: str | torch.device = "cpu"
    ) -> ActivationBatches:
        if self.hook_name is None:
            raise ConfigError(
                "no hook point to read is given",
                got="hook_name = None",
                accepted="the name of a hook point",
                fix='call .at("blocks.15.hook_resid_post") first',
            )
        return activation_batches(
            self.model,
            self.text,
            self.hook_name,
            batch_size=batch_size,
            length=self.length,
            prepend_bos=self.prepend_bos,
            seed=seed,
            n_epochs=n_epochs,
            buffer_tokens=max(self.buffer_tokens, batch_size),
            device=device,
        )


def check_provenance(provenance: Provenance, model: LanguageModel, what: str) -> None:
    """MismatchError when activations were read from another model or weight processing; what is not known is not held
    against them. `what` names them in the error."""
    known = (provenance.model_fingerprint, provenance.weight_processing)
    for kind, mine, wanted in zip(
        ("model", "weight processing"), known, (model.fingerprint, model.weight_processing), strict=True
    ):
        if mine is not None and mine != wanted:
            raise MismatchError(
                f"{what} are of another {kind}",
                got=f"{model.name} ({wanted})" if kind == "model" else hook_text(wanted),
                accepted=f"{provenance.model_name} ({mine})" if kind == "model" else mine,
                fix="use the model they were read from, or read them again",
            )
