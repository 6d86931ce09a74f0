"""`steer`: a SteeringPanel on a real model, for which it generates texts, their metrics and feature names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from ..arguments import checks_arguments
from ..errors import ConfigError, check_feature
from ..sae.formats.packaged import packaged_labels
from ..steering.strength_units import STRENGTH_UNITS, convert_strength
from .base import check_choice
from .steering_panel import SteeringPanel
from .steering_request import Annotation, Condition, SteeringRequest, TokenSteps
from .token_highlight import names_of, pack_rows

if TYPE_CHECKING:
    from ..index import FeatureIndex
    from ..models import LanguageModel
    from ..sae import SAE
    from ..steering import Edit, SteeringStudy
    from ..steering.decoding import Row
    from ..steering.dose_response import PresentIn

    Treatment = Mapping[int, float] | str | Edit | Sequence[Edit] | None

N_CHOICES = 5
"""Likeliest next tokens, unsteered and as written."""
N_NAMED = 4
"""Strongest features of a token that get a name."""
N_READ = 2048
"""Tokens that are read back at once: their logits lie in memory."""
DEFAULT_STRENGTH = 0.5
"""Of the residual norm: the initial strength without a recommendation."""


@checks_arguments
def steer(
    model: LanguageModel,
    sae: SAE,
    feature: int | None = None,
    *,
    strength: float | None = None,
    conditions: Mapping[str, Treatment] | None = None,
    index: FeatureIndex | None = None,
    recommended: SteeringStudy | Mapping[int, float] | None = None,
    concept: PresentIn | None = None,
    prompt: str = "Who are you?",
    **traits: Any,
) -> SteeringPanel:
    """A SteeringPanel: `model` answers under any number of conditions, side by side.

    Without `conditions` there are two: the model as it is, and `feature` clamped to `strength`. `conditions` gives each
    one a name and what is done: {feature: strength, ...} clamps features, a sentence is put behind each message,
    an edit or several are applied as they are, None does nothing. Strengths are in `unit`, by default fractions of the
    residual norm. `recommended` marks strengths on the sliders: a study, or {feature: fraction of the norm}; `strength`
    begins there. A packaged SAE brings some. With `index`, features have its names and strengths can be multiples of
    their maximum. With `concept`, each text is checked for it.

    Further keywords set traits of the panel: unit, chat, positions, max_new_tokens, temperature, seed,
    sweep_strengths. `chat` is on unless the model has no chat template. Raises UnknownNameError for a feature the SAE
    does not have and MismatchError for an SAE or edits of another model. Special tokens and attention sinks are left
    unedited and out of the residual norm.

    >>> panel = sk.steer(model, sae, 3, prompt="the cat", chat=False, max_new_tokens=4)
    >>> panel.run(wait=True).running
    False
    >>> panel.texts["unsteered"] == sk.generate(model, "the cat", max_new_tokens=4).text
    True
    """
    from ..steering import clamp

    sae.check(model)
    first = 0 if feature is None else check_feature(feature, sae.config.d_sae)
    unit = check_choice("unit", traits.get("unit", "norm"), STRENGTH_UNITS)
    clamp(sae, {first: 0.0})  # what cannot be edited with is refused here, not at the first run
    norm, norm_in_units = _residual_norms(model, sae, prompt)

    def maximum(i: int) -> float:
        return 0.0 if index is None else float(index.features["max"][i])

    def residual(i: int) -> float:
        return norm_in_units / (float(sae.W_dec[i].detach().norm()) or 1.0)

    def scales(i: int) -> dict[str, float]:
        return {"raw": 1.0, "max": maximum(i), "norm": residual(i)}

    marks = _marks(recommended, scales, sae.fingerprint)

    def describe(i: int) -> dict[str, Any]:
        name = names_of(index, [i]).get(str(i), "")
        return {"name": name, "max": maximum(i), "recommended": marks.get(i), "residual": residual(i)}

    if strength is None:
        strength = convert_strength(marks.get(first, DEFAULT_STRENGTH), "norm", unit, scales(first))
    if conditions is not None and feature is not None:
        raise ConfigError(
            "a feature and conditions are both given",
            got=f"feature={feature}, conditions={list(conditions)}",
            fix=f"put the feature among the conditions: {{'steered': {{{feature}: {strength:g}}}}}",
        )
    if conditions is not None and not isinstance(conditions, Mapping):
        raise ConfigError(
            "conditions have no names",
            got=f"{conditions!r:.80}",
            accepted='a mapping, such as {"plain": None, "steered": {3: 0.4}}',
        )
    treatments = {"unsteered": None, "steered": {first: strength}} if conditions is None else dict(conditions)
    fixed: dict[str, tuple[Edit, ...]] = {}
    rows = [_condition(model, name, what, fixed, sae.config.d_sae) for name, what in treatments.items()]
    for row in rows:
        if row.features:
            clamp(sae, dict(row.features), unit=cast(Any, unit), index=index)
    writer = _Writer(model, sae, index, fixed)
    has_chat = getattr(model.tokenizer, "chat_template", None) is not None
    return SteeringPanel(
        writer.write,
        writer.read,
        describe,
        None if concept is None else concept.present,
        n_features=sae.config.d_sae,
        prompt=prompt,
        conditions=[row.to_dict() for row in rows],
        residual_norm=norm,
        concept="" if concept is None else str(getattr(concept, "name", concept)),
        has_chat=has_chat,
        units=[u for u in STRENGTH_UNITS if u != "max" or index is not None],
        **{"chat": has_chat, "colour_feature": first if conditions is None else _first_feature(rows), **traits},
    )


class _Writer:
    """Generates what a panel requests and reads it back."""

    def __init__(
        self, model: LanguageModel, sae: SAE, index: FeatureIndex | None, fixed: Mapping[str, tuple[Edit, ...]]
    ) -> None:
        self._model, self._sae, self._index, self._fixed = model, sae, index, fixed

    def write(self, request: SteeringRequest, stop: Callable[[], bool]) -> TokenSteps:
        from ..steering.generation import advance

        rows = [self._row(request, i) for i in range(len(request.conditions))]
        return advance(
            self._model, rows, max_new_tokens=request.max_new_tokens, temperature=request.temperature, stop=stop
        )

    def read(self, request: SteeringRequest, written: Sequence[Sequence[Any]]) -> list[Annotation]:
        from ..steering.readout import TextSample, read

        texts = []
        for i, tokens in enumerate(written):
            row, bare = self._row(request, i), self._row(request, i, instructed=False)
            texts.append(TextSample(bare.ids, row.ids, tuple(token.token for token in tokens), row.edits))
        longest = max(len(text.context) + len(text.new) for text in texts)
        n = max(1, N_READ // longest)
        readings = (r for at in range(0, len(texts), n) for r in read(self._model, self._sae, texts[at : at + n]))
        return [self._annotation(text.new, reading) for text, reading in zip(texts, readings, strict=True)]

    def _row(self, request: SteeringRequest, i: int, *, instructed: bool = True) -> Row:
        """What condition i reads; without its instruction, what its text is scored against."""
        from ..steering import clamp
        from ..steering.decoding import make_rows
        from ..steering.generation import check_edits

        condition = request.conditions[i]
        edits: tuple[Edit, ...] = self._fixed[condition.edits] if condition.edits else ()
        if condition.features:
            values = dict(condition.features)
            new = clamp(self._sae, values, unit=request.unit, positions=request.positions, index=self._index)
            edits = (*edits, new)
        instruction = condition.instruction if instructed else ""
        messages = [f"{message} {instruction}" if instruction else message for message in request.messages]
        prompt: Any = messages[-1]
        if request.chat and len(messages) > 1:
            prompt = [{"role": "user", "content": messages[0]}]
            for reply, message in zip(request.replies[i], messages[1:], strict=True):
                prompt += [{"role": "assistant", "content": reply}, {"role": "user", "content": message}]
        checked = check_edits(self._model, edits)
        bos = self._sae.config.prepend_bos
        return make_rows(self._model, [prompt], edits=checked, seed=request.seed, chat=request.chat, prepend_bos=bos)[0]

    def _annotation(self, new: Sequence[int], reading: Any) -> Annotation:
        from ..steering.fluency import repetition

        token, feature = (reading.feature_acts != 0).nonzero(as_tuple=True)
        value = reading.feature_acts[token, feature]
        choices = []
        for at, written in enumerate(new):
            before, after = reading.before[at], reading.after[at]
            likely = {*before.topk(N_CHOICES).indices.tolist(), *after.topk(N_CHOICES).indices.tolist(), written}
            ids = sorted(likely, key=lambda i: -float(after[i]))
            strings = [self._model.vocabulary.shown[i] for i in ids]
            choices.append(
                [(text, float(before[i].exp()), float(after[i].exp())) for text, i in zip(strings, ids, strict=True)]
            )
        return Annotation(
            nll=reading.nll.tolist(),
            repetition=repetition(new),
            choices=choices,
            acts=pack_rows(token.numpy(), feature.numpy(), value.numpy(), len(new)),
            names=self._names(reading),
        )

    def _names(self, reading: Any) -> dict[int, str]:
        strongest = reading.feature_acts.topk(N_NAMED)
        fired = strongest.indices[strongest.values > 0].unique().tolist()
        return {int(i): name for i, name in names_of(self._index, fired).items()}


def _condition(
    model: LanguageModel, name: str, what: Any, fixed: dict[str, tuple[Edit, ...]], n_features: int
) -> Condition:
    """A condition from what `steer` was given; edits are kept in `fixed` under their sentence."""
    from ..steering.generation import check_edits

    if what is None or (isinstance(what, (Mapping, str)) and not what):
        return Condition(name=name)
    if isinstance(what, str):
        return Condition(name=name, instruction=what)
    if isinstance(what, Mapping):
        rows = [{"feature": i, "strength": s} for i, s in what.items()]
        return Condition.from_dict({"name": name, "features": rows}, n_features)
    edits = check_edits(model, what)
    sentence = "; ".join(map(repr, edits))
    fixed[sentence] = edits
    return Condition(name=name, edits=sentence)


def _first_feature(conditions: Sequence[Condition]) -> int:
    return next((i for c in conditions for i, _ in c.features), 0)


def _residual_norms(model: LanguageModel, sae: SAE, prompt: str) -> tuple[float, float]:
    """The median norm of what the SAE reads over the prompt's tokens that its token filter keeps; 0 for no token.

    And the same in units of activation, which differ from token to token where the SAE normalises each.
    """
    import torch

    from ..activations import resolve_token_filter

    ids = model.tokenize(prompt, sae.config.prepend_bos)
    x = model.activations(ids, str(sae.config.hook_name))[0]
    kept = x[resolve_token_filter(model, sae).keep(torch.tensor(ids, device=x.device), x)].float()
    if not len(kept):
        return 0.0, 0.0
    norm = kept.norm(dim=-1)
    return float(norm.median()), float((norm / sae.unit_of(kept)[:, 0].clamp_min(1e-12)).median())


def _marks(
    recommended: SteeringStudy | Mapping[int, float] | None,
    scales: Callable[[int], Mapping[str, float]],
    fingerprint: str,
) -> dict[int, float]:
    """Recommended strengths as fractions of the residual norm."""
    if recommended is None:
        return {row["feature"]: row["strength"] for row in packaged_labels(fingerprint)["strengths"]}
    if not isinstance(recommended, Mapping) and not hasattr(recommended, "recommended"):
        raise ConfigError(
            "nothing is recommended by this",
            got=f"{recommended!r:.80}",
            accepted="a SteeringStudy, or {feature: fraction of the norm}",
        )
    if isinstance(recommended, Mapping):
        return {int(i): float(s) for i, s in recommended.items()}
    best = recommended.recommended
    if best is None:
        return {}
    return {i: convert_strength(w * best, recommended.unit, "norm", scales(i)) for i, w in recommended.weights.items()}
