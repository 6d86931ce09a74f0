"""What the files of a SAELens folder may hold: types and bounds of every field that is read, and of the sparsity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from ...atomic_io import with_current_keys
from ...errors import FileError
from ...json_files import RESTORE, Count, Finite, Hooks, Natural, Sha256, TokenId, checked
from ..token_filter import TokenFilterFields

Digits = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
MAX_LOG = 1e-3
"""Of a fraction's logarithm: 0, rounded in half precision."""
MARKS = ("weights_sha256", "fingerprint")
"""Fields of saekit's part that nobody else writes."""


class ConfigFields(TypedDict, total=False):
    """An SAEConfig as JSON; which values go together, the class says."""

    d_in: Count
    d_sae: Count
    activation: str
    k: Count | None
    matryoshka: list[Count]
    multi_k_coefficient: Finite
    sparsity_coefficient: Finite | None
    target_l0: Finite | None
    l0_penalty: str
    bandwidth: Finite | None
    firing_rate: Finite | None
    aux_coefficient: Finite
    apply_b_dec_to_input: bool | None
    input_normalisation: str
    d_out: Count | None
    skip: bool
    dtype: str
    seed: int
    hook_name: Hooks | None
    hook_out: str | None
    model_name: str | None
    model_fingerprint: str | None
    weight_processing: str | None
    token_filter: TokenFilterFields | None
    prepend_bos: bool | None
    exclude_special_tokens: bool | list[TokenId] | None
    context_size: Count | None
    dataset: str | None


class TrainedOn(TypedDict):
    """What a run was trained on."""

    digest: str
    described: str


class Training(TypedDict, total=False):
    """The training summary: metrics, of which there may be any, and the configuration of the run."""

    finished: bool
    n_steps: Natural
    config: dict[str, Any]
    trained_on: TrainedOn


class Own(TypedDict):
    """metadata.saekit."""

    format: Literal[1]
    weights_sha256: Sha256
    sparsity_sha256: NotRequired[Sha256 | None]
    fingerprint: Digits
    config: ConfigFields
    training: NotRequired[Training]
    checksum: NotRequired[Digits]


class Metadata(TypedDict, total=False):
    """What SAELens 6 knows beside the SAE itself."""

    sae_lens_version: str | None
    model_name: str | None
    hook_name: str | None
    hook_name_out: str | None
    hook_head_index: int | None
    context_size: Count | None
    prepend_bos: bool | None
    dataset_path: str | None
    exclude_special_tokens: bool | list[TokenId] | None
    model_from_pretrained_kwargs: dict[str, Any] | None
    saekit: Own


class Cfg(TypedDict):
    """cfg.json of SAELens 6; options of single architectures are checked where they are used."""

    architecture: str
    d_in: Count
    d_sae: Count
    d_out: NotRequired[Count]
    k: NotRequired[Finite | None]
    dtype: NotRequired[str | None]
    apply_b_dec_to_input: NotRequired[bool]
    normalize_activations: NotRequired[str | None]
    activation_normalization_factor: NotRequired[Finite | None]
    rescale_acts_by_decoder_norm: NotRequired[bool | None]
    finetuning_scaling_factor: NotRequired[bool | None]
    sae_lens_version: NotRequired[str | None]
    metadata: NotRequired[Metadata | None]


def check_fields(cfg: dict[str, Any], path: Path) -> None:
    """FileError for a field of another type or out of bounds, and for saekit's part under another name."""
    checked(with_current_keys(cfg), Cfg, path)
    metadata = cfg.get("metadata") or {}
    for name, part in metadata.items():
        if name != "saekit" and isinstance(part, dict) and part.keys() & {*MARKS}:
            raise FileError(
                f"{path} was altered: it has saekit's part under another name", got=name, accepted="saekit", fix=RESTORE
            )


def density_of(sparsity: Tensor | None, d_sae: int, path: Path) -> Tensor | None:
    """How often each feature fires, of its logarithm in a file; FileError where it is not one for each feature."""
    if sparsity is None:
        return None
    fits = tuple(sparsity.shape) == (d_sae,) and sparsity.is_floating_point()
    if not fits or not bool((sparsity <= MAX_LOG).all()):
        seen = f", up to {float(sparsity.max()):g}" if fits else ""
        raise FileError(
            f"{path} does not hold how often each feature fires",
            got=f"shape {tuple(sparsity.shape)}, {sparsity.dtype}{seen}",
            accepted=f"log10 of a fraction for each of {d_sae} features: at most 0",
            fix="it is of another SAE, or was altered: copy the folder again, or delete that file to load without it",
        )
    return 10.0 ** sparsity.float()
