"""A model that stays steered: its edits are part of it, in saekit and in TransformerLens code.

`steered` gives a model like any other whose every forward pass is edited. As a context manager it puts its edits on the
TransformerLens bridge as well, and takes them off again. Its edits go into a small file; weights stay behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ..arguments import checks_arguments
from ..atomic_io import write_json
from ..errors import FileError, MismatchError
from ..json_files import checked, damaged, read_sealed, sealed
from ..models import LanguageModel
from ..models.facts import ModelFacts
from ..models.token_text import Vocabulary
from ..sae import SAE, list_saes, load_sae
from .displays import steered_html
from .edit_hooks import apply_edits, default_filter
from .edits import Edit
from .file_schema import BUILT_IN, BuiltInFields, SteeredFields
from .generation import Edits, check_edits

TOKENS = "embed.hook_in"
"""The hook point that sees token ids."""
FORMAT = 1


@checks_arguments
def steered(model: LanguageModel, edits: Edits) -> SteeredModel:
    """A SteeredModel: `model` with edits in every forward pass. Of a steered model, the new edits come after its own.
    Special tokens and attention sinks are left unedited (`resolve_token_filter` where an edit's SAE stores no filter).

    In saekit it goes wherever a model goes. Within a `with` block its bridge is steered too:

    >>> calm = sk.steered(model, sk.clamp(sae, {3: 2.0}))
    >>> sk.generate(calm, "the cat", max_new_tokens=4).text == sk.generate(
    ...     model, "the cat", edits=sk.clamp(sae, {3: 2.0}), max_new_tokens=4).text
    True
    >>> with sk.steered(model, sk.clamp(sae, {3: 2.0})):
    ...     logits = model.bridge(torch.tensor([[0, 5, 6]]))

    Raises MismatchError when an edit is for another model, ConfigError for what is not an edit.
    """
    return SteeredModel(model, edits)


class SteeredModel(LanguageModel):
    """A language model whose every forward pass is edited. Made by `steered`.

    `generate` and `stream` know the prompt from what was generated. In any other pass a token counts as generated when
    the pass has a key-value cache from before, and as the prompt's otherwise.

    >>> sk.steered(model, sk.ablate(sae, 3)).edits
    (ablate feature 3 at blocks.0.hook_resid_post, at all positions,)
    """

    def __init__(self, model: LanguageModel, edits: Edits) -> None:
        super().__init__(model.bridge, model.name, model.tokenizer if model.has_tokenizer else None)
        self._base = model.base
        self.edits = (*model.edits, *check_edits(model, edits))
        with model.unedited():
            self._hooks = _BridgeHooks(self._base, self.edits)
        self._opened = contextlib.ExitStack()

    def __repr__(self) -> str:
        return "\n".join([super().__repr__(), *(f"  steered: {edit}" for edit in self.edits)])

    _repr_html_ = steered_html

    @cached_property
    def fingerprint(self) -> str:
        """The weights' and the edits': activations under other edits are another model's."""
        edits = json.dumps([edit.to_dict() for edit in self.edits], sort_keys=True)
        return hashlib.sha256(f"{self.weights_fingerprint} {edits}".encode()).hexdigest()[:16]

    @property
    def facts(self) -> ModelFacts:
        return self._base.facts

    @property
    def vocabulary(self) -> Vocabulary:
        return self._base.vocabulary

    @property
    def base(self) -> LanguageModel:
        return self._base

    @property
    def weights_fingerprint(self) -> str:
        return self.base.weights_fingerprint

    def __enter__(self) -> Self:
        self._opened.enter_context(self._hooks.on())
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @contextlib.contextmanager
    def unedited(self) -> Iterator[None]:
        with self._lock, self._hooks.off():
            yield

    def _run(self, tokens: Tensor, hooks: Sequence[tuple[str, Any]], **kwargs: Any) -> Any:
        with self._lock, self._hooks.on():
            return super()._run(tokens, hooks, **kwargs)

    @checks_arguments
    def save(self, path: str | Path) -> Path:
        """Writes the edits into a JSON file and returns its path; see `load_steered`."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(
            path,
            sealed(
                {
                    "format": FORMAT,
                    "model_name": self.base.name,
                    "model_fingerprint": self.weights_fingerprint,
                    "sentences": [repr(edit) for edit in self.edits],
                    "edits": [edit.to_dict() for edit in self.edits],
                }
            ),
        )
        return path


@checks_arguments
def load_steered(model: LanguageModel, path: str | Path, saes: SAE | Sequence[SAE] = ()) -> SteeredModel:
    """The SteeredModel that `SteeredModel.save` wrote, on the model it was made for.

    `saes` are the SAEs of its edits; those that come with saekit need not be given. Raises FileError for a file that is
    none of `save`'s, MismatchError for another model or a missing SAE.

    >>> path = sk.steered(model, sk.ablate(sae, 3)).save(tmp_path / "calm.json")
    >>> sk.load_steered(model, path, sae).edits
    (ablate feature 3 at blocks.0.hook_resid_post, at all positions,)
    """
    saved = read_sealed(path)
    if not isinstance(saved, dict) or saved.get("format") != FORMAT or "edits" not in saved:
        raise FileError(
            f"{path} does not hold a steered model",
            got=f"{saved!r:.80}",
            accepted=f"a file of SteeredModel.save, format {FORMAT}",
            fix="save it again with this version of saekit",
        )
    checked(saved, SteeredFields, path)
    checked([edit for edit in saved["edits"] if edit["kind"] in BUILT_IN], list[BuiltInFields], f"{path}, edits")
    if saved["model_fingerprint"] != model.weights_fingerprint:
        raise MismatchError(
            "the edits were made for another model",
            got=f"{model.name} ({model.weights_fingerprint})",
            accepted=f"{saved['model_name']} ({saved['model_fingerprint']})",
            fix="load that model",
        )
    given = [saes] if isinstance(saes, SAE) else list(saes)
    given += _packaged(saved["edits"], {sae.fingerprint for sae in given})
    with damaged(path):
        edits = [Edit.from_dict(edit, given) for edit in saved["edits"]]
    return steered(model, edits)


def _packaged(edits: Sequence[dict[str, Any]], known: set[str]) -> list[SAE]:
    """The SAEs that come with saekit, of those that are named and not yet known."""
    named = {part["sae_fingerprint"] for edit in edits for part in (edit, *edit["where"]) if "sae_fingerprint" in part}
    if not named - known:
        return []
    return [sae for name in list_saes().index if (sae := load_sae(str(name))).fingerprint in named - known]


class _BridgeHooks:
    """Edits as hooks on a TransformerLens bridge, which are there while at least one user wants them."""

    def __init__(self, model: LanguageModel, edits: Sequence[Edit]) -> None:
        self._model, self._n_users, self._paused = model, 0, False
        self._by_hook: dict[str, list[Edit]] = {}
        for edit in edits:
            self._by_hook.setdefault(model.first_name(edit.hook_name), []).append(edit)
        self._layouts = {name: model.hook_layout(name) for name in self._by_hook}
        self._token_filters = {name: default_filter(model, name, here) for name, here in self._by_hook.items()}
        self._past: Any = None
        self._mask: Tensor | None = None
        self._n_prompt = 0
        self._pass: dict[str, Tensor] = {}
        self._installed: list[tuple[Any, Any]] = []

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """The bridge with its hooks; installed once, however often it is entered."""
        self._n_users += 1
        if self._n_users == 1:
            self._install()
        try:
            yield
        finally:
            self._n_users -= 1
            if self._n_users == 0:
                self._remove()

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """Forward passes in here are not edited, even while the hooks are on the bridge."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def _install(self) -> None:
        if not self._by_hook:
            return
        bridge = self._model.bridge
        points = bridge.hook_dict  # built at every access
        if TOKENS not in points:
            raise MismatchError(
                f"{self._model.name} has no hook point that sees its tokens",
                got="no " + TOKENS,
                accepted="a model with that hook point",
                fix="pass the edits to sk.generate instead",
            )
        self._installed.append((None, bridge.register_forward_pre_hook(self._begin, with_kwargs=True)))
        for name, hook in ((TOKENS, self._see), *((name, partial(self._edit, name)) for name in self._by_hook)):
            point = points[name]
            self._installed.append((point, point.add_hook(hook, is_permanent=True, prepend=True)))

    def _remove(self) -> None:
        for point, handle in self._installed:
            if point is None:
                handle.remove()
            else:
                handle.hook.remove()
                point.fwd_hooks.remove(handle)
        self._installed.clear()
        self._pass.clear()
        self._past = self._mask = None

    def _begin(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self._past, self._mask = kwargs.get("past_key_values"), kwargs.get("attention_mask")

    def _see(self, tokens: Tensor, hook: Any = None) -> None:
        n_past = 0 if self._past is None else int(self._past.get_seq_length())
        if n_past == 0:
            self._n_prompt = tokens.shape[1]
        step = n_past + torch.arange(tokens.shape[1], device=tokens.device) - self._n_prompt
        attended = torch.ones_like(tokens, dtype=torch.bool)
        if self._mask is not None:
            attended = self._mask[:, -tokens.shape[1] :].bool()
        self._pass = {"tokens": tokens, "attended": attended, "step": step.expand_as(tokens)}

    def _edit(self, name: str, x: Tensor, hook: Any = None) -> Tensor | None:
        if self._paused:
            return None
        tokens, attended, step = (self._pass[k].to(x.device) for k in ("tokens", "attended", "step"))
        token_filter, layout = self._token_filters[name], self._layouts[name]
        flat = layout.flatten(x)
        edited = apply_edits(flat, self._by_hook[name], tokens, attended=attended, step=step, token_filter=token_filter)
        return layout.restore(edited, x)
