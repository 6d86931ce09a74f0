"""What an architecture is: how pre-activations become a few active features, how that is trained, and its defaults.

One file per architecture. All that depends on the choice of architecture is declared here and read by configuration,
trainer, optimiser, files, command line, benchmarks and tests. An architecture reads weights only through the SAE it is
given and keeps no state of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...errors import ConfigError
from ..sparse.selection import BLOCK_ELEMENTS, Chosen

if TYPE_CHECKING:
    from ..base import SAE
    from ..config import SAEConfig


@dataclass(frozen=True, eq=False)
class TrainingForward:
    """One batch through an SAE as its architecture trains it; gradients flow to the weights."""

    error: Float[Tensor, "n d_out"]
    """What the reconstruction leaves: target - x_hat."""
    squared_error: Float[Tensor, ""]
    """What is to be minimised of it, summed over the batch: ||error||^2, and what the architecture adds."""
    counts: Int[Tensor, " d_sae"]
    """Number of tokens each feature was active on."""
    penalty: Float[Tensor, ""] | None = None
    """The sparsity penalty per token, before its coefficient; None for an architecture without one."""
    smallest: Float[Tensor, ""] | None = None
    """The smallest activation that was kept, for an architecture whose threshold follows it; infinity for none."""


class Architecture(ABC):
    """One way of choosing the active features. A subclass has a name, `acts`, and what differs from these defaults."""

    name: ClassVar[str]
    """What SAEConfig.activation calls it."""
    options: ClassVar[tuple[str, ...]] = ()
    """The fields of SAEConfig that it has, of those that only some architectures have (options.py)."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Those of its options that have no default."""

    # inference
    elementwise: ClassVar[bool] = True
    """Whether a feature's activation depends on its own pre-activation alone."""
    has_threshold: ClassVar[bool] = False
    """Whether inference uses `sae.threshold`."""

    # training
    extra_parameters: ClassVar[tuple[str, ...]] = ()
    """Vectors over features, besides b_enc, that training moves; they begin at 0."""
    activation_units: ClassVar[tuple[str, ...]] = ()
    """Those of its vectors that are in units of the activations, besides b_enc and the threshold."""
    unit_decoder: ClassVar[bool] = True
    """Whether decoder rows are held at unit norm during training."""
    auxiliary_loss: ClassVar[bool] = False
    """Whether dead features are revived by the auxiliary loss of Gao et al. 2024."""
    resampling: ClassVar[bool] = False
    """Whether TrainConfig.resample_every resamples dead features."""

    # SAELens' files
    saelens_name: ClassVar[str]
    """Its name in SAELens' files; "saekit_" and its own name unless the class says otherwise."""
    saelens_default: ClassVar[bool] = True
    """Whether a file of that name that saekit did not write is read as this architecture."""
    saelens_transcoders: ClassVar[bool] = False
    """Whether SAELens has transcoders of it."""
    saelens_tensors: ClassVar[Mapping[str, str]] = {}
    """What files call a tensor, where it is not saekit's name."""

    def __init_subclass__(cls) -> None:
        own = vars(cls)
        if "name" in own and "saelens_name" not in own:  # a parent's name would have SAELens read the parent's features
            cls.saelens_name, cls.saelens_default, cls.saelens_transcoders = f"saekit_{cls.name}", True, False

    # ---- configuration ------------------------------------------------------------------------------------------

    @property
    def l0_option(self) -> str | None:
        """The field of SAEConfig that says how many features are active per token: k, target_l0 or none."""
        return next((name for name in ("k", "target_l0") if name in self.options), None)

    def with_l0(self, l0: float) -> dict[str, Any]:
        """The fields of SAEConfig that ask for so many active features per token.

        >>> sk.sae.ARCHITECTURES["topk"].with_l0(5), sk.sae.ARCHITECTURES["relu"].with_l0(5)
        ({'k': 5}, {'target_l0': 5})
        """
        return {} if self.l0_option is None else {self.l0_option: l0}

    def check(self, config: SAEConfig) -> None:
        """Raises ConfigError for options that do not go together; each alone has been checked."""
        if config.sparsity_coefficient == 0 and self.steered_l0(config) is not None:
            raise ConfigError(
                "the penalty cannot be steered from 0",
                got="sparsity_coefficient = 0 with a target_l0",
                accepted="a coefficient above 0, where steering begins",
                fix="leave sparsity_coefficient out",
            )

    def default_target_l0(self, config: SAEConfig) -> float | None:
        """SAEConfig.target_l0 where it was left out; None where the weight of the penalty stays what it is.

        32, which is usual for k at widths of some hundreds, and at most d_in / 8 and d_sae / 8: sparser codes than
        about d / (2 log(n / l0)) are needed to recover n directions in d dimensions (Donoho and Tanner 2010,
        arXiv:0906.2530), which is near d / 8 for dictionaries of a few times the width.
        """
        if "target_l0" not in self.options or self.fixes_sparsity(config):
            return None
        return min(32.0, config.d_in / 8, config.d_sae / 8)

    def fixes_sparsity(self, config: SAEConfig) -> bool:
        """Whether a configuration says how sparse features are to be without a target L0."""
        return config.sparsity_coefficient is not None

    def describe(self, config: SAEConfig) -> str:
        """The name with what changes the kind of SAE: nested prefixes, a second reconstruction."""
        return self.name

    def variants(self, d_sae: int) -> dict[str, dict[str, Any]]:
        """The kinds of it that benchmarks and file checks cover, by what is added to the name: fields of SAEConfig."""
        return {"": {}}

    def shift(self, sae: SAE, shift: Float[Tensor, " d_sae"]) -> None:
        """Adds to every pre-activation, in place, as when a mean is folded into the biases."""
        sae.b_enc.add_(shift)

    # ---- training -----------------------------------------------------------------------------------------------

    def default_sparsity_coefficient(self, config: SAEConfig) -> float | None:
        """Weight of the sparsity penalty unless the configuration says otherwise; None where there is no penalty."""
        return None

    def steered_l0(self, config: SAEConfig) -> float | None:
        """The L0 that the weight of the penalty is steered to; None where it is fixed."""
        return config.target_l0

    def sparsity_warmup_fraction(self, config: SAEConfig) -> float:
        """Fraction of the run over which the penalty rises from 0; 0.05 in Anthropic, April 2024."""
        return 0.05

    def peak_lr(self, d_sae: int, n_steps: int) -> float:
        """The peak learning rate of Adam.

        Rates follow 1 / sqrt(d_sae) (Gao et al. 2024: 2e-4 at 16,384 features for topk). That is for runs of very many
        steps: up to 2,000 steps the rate is 7.5 times as high, and the rise is gone by 50,000. Measured at layer 15 of
        the default model, 300 steps of 2,048 tokens, 4,096 features, topk, k 32: held-out explained variance 0.806 at
        1.2e-3, 0.839 at 3e-3 (20 features dead) and 0.846 at 6e-3 (409 dead). 400 steps of 1,024 tokens, 1,024
        features, 3e-3, target_l0 32: jumprelu 0.795, gated 0.796, kl 0.784, relu 0.782. On 256 synthetic features
        rates of 1e-2 to 2e-2 were best for topk and 5e-3 to 1e-2 for relu.
        """
        return float(2e-4 * (16_384 / d_sae) ** 0.5 * 7.5 ** short_run(n_steps))

    def lr_factor(self, parameter: str, config: SAEConfig) -> float:
        """Learning rate of a parameter over that of the others."""
        return 1.0

    def begin(self, sae: SAE) -> None:  # noqa: B027 (nothing by default)
        """Sets its own vectors at the start of training a new SAE, in place, in units of normalised activations."""

    def constrain(self, sae: SAE) -> None:  # noqa: B027 (nothing by default)
        """Brings its own vectors back into their range after a step, in place."""

    def after_step(  # noqa: B027
        self, sae: SAE, out: TrainingForward, finite: Bool[Tensor, ""], step: int, n_steps: int
    ) -> None:
        """Updates in place what no gradient moves; `step` counts from 0, `finite` says whether the batch counts."""

    # ---- activations --------------------------------------------------------------------------------------------

    @abstractmethod
    def acts(
        self, pre_acts: Float[Tensor, "n d_sae"], sae: SAE, features: Int[Tensor, " d_sae"] | None = None
    ) -> Float[Tensor, "n d_sae"]:
        """Feature activations at inference, with their zeros; `features` are the columns given, None for all."""

    def select(self, sae: SAE, x: Float[Tensor, "n d_in"]) -> Chosen:
        """The non-zero activations of x: token, feature (ascending in both) and value.

        This one goes through `acts` in blocks of tokens; an architecture overrides it where it can do with less.
        """
        found = []
        rows = max(1, BLOCK_ELEMENTS // sae.config.d_sae)
        for start in range(0, max(1, len(x)), rows):
            acts = self.acts(sae.pre_acts(x[start : start + rows]), sae)
            token, feature = acts.nonzero().unbind(1)
            found.append((token + start, feature, acts[token, feature]))
        token, feature, value = (torch.cat(parts) for parts in zip(*found, strict=True))
        return token, feature, value

    def training_forward(
        self, sae: SAE, x: Float[Tensor, "n d_in"], target: Float[Tensor, "n d_out"]
    ) -> TrainingForward:
        """One batch in training: how well `target` (x itself, but for a transcoder) is reconstructed.

        This one is inference with gradients, and no penalty; an architecture overrides it where training differs.
        """
        acts = self.acts(sae.pre_acts(x), sae)
        error = target - sae.reconstruct(acts @ sae.W_dec, x)
        return TrainingForward(error, error.square().sum(), (acts.detach() != 0).sum(0))

    # ---- SAELens' files -----------------------------------------------------------------------------------------

    @property
    def in_saelens(self) -> bool:
        """Whether SAELens reads its files."""
        return not self.saelens_name.startswith("saekit_")

    def saelens_architecture(self, transcoder: bool, skip: bool) -> str:
        """Its name in SAELens' files, as a transcoder's too."""
        return f"{self.saelens_name}_{TRANSCODERS[skip]}" if transcoder else self.saelens_name

    def to_saelens(self, config: SAEConfig) -> dict[str, Any]:
        """The fields of cfg.json that only this architecture has."""
        return {}

    def from_saelens(self, cfg: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of SAEConfig that cfg.json of others says of this architecture."""
        return {}


TRANSCODERS = ("transcoder", "skip_transcoder")


def short_run(n_steps: int) -> float:
    """1 for runs of up to 2,000 steps, 0 from 50,000, linear between."""
    return min(1.0, max(0.0, 1.0 - (n_steps - 2_000) / 48_000))
