"""What cfg.json may hold, and whether it is as it was written.

Types and bounds of every field that is read, SAELens' own and saekit's under metadata.saekit. A digest there covers
the whole file, since one altered digit of a hook point or a limit is as likely a value as the right one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from ...atomic_io import with_current_keys
from ...errors import FileError
from ...json_files import DIGEST, RESTORE, Count, Finite, Hooks, Natural, Sha256, TokenId, checked, digest_of
from ..token_filter import TokenFilterFields

Digits = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
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
    digest: NotRequired[Digits]


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


def with_digest(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with a digest of all of it in saekit's part."""
    metadata = cfg["metadata"]
    own = {name: value for name, value in metadata["saekit"].items() if name != DIGEST}
    bare = {**cfg, "metadata": {**metadata, "saekit": own}}
    return {**bare, "metadata": {**metadata, "saekit": {**own, DIGEST: digest_of(bare)}}}


def check_fields(cfg: dict[str, Any], path: Path) -> None:
    """FileError for a field of another type or out of bounds."""
    checked(with_current_keys(cfg), Cfg, path)
    metadata = cfg.get("metadata") or {}
    for name, part in metadata.items():
        if name != "saekit" and isinstance(part, dict) and part.keys() & {*MARKS}:
            raise FileError(
                f"{path} was altered: it has saekit's part under another name", got=name, accepted="saekit", fix=RESTORE
            )


def check_digest(cfg: Mapping[str, Any], path: Path, version: str) -> None:
    """FileError for a file of saekit's own whose content is not what its digest says.

    SAELens keeps metadata when it saves an SAE again, and writes another version there than `version`, which saekit
    writes: such a file is not held to the digest.
    """
    metadata = cfg.get("metadata") or {}
    own = metadata.get("saekit") if metadata.get("sae_lens_version") == version else None
    if own and DIGEST in own and own[DIGEST] != (found := with_digest(cfg)["metadata"]["saekit"][DIGEST]):
        raise FileError(
            f"{path} was altered: its content is not what its digest says",
            got=f"digest {own[DIGEST]}",
            accepted=found,
            fix=f'{RESTORE}; if you changed it on purpose, take the line "{DIGEST}" out of metadata.saekit',
        )
