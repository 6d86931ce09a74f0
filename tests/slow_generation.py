"""Generation under edits by a slow, obvious loop, and edits and SAEs to try it with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import saekit as sk
from saekit.steering.direction_edits import DirectionEdit

HOOK, LATER = "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"


def make_sae(model: Any, activation: str, *, hook_name: str = HOOK, d_sae: int = 64, seed: int = 0) -> Any:
    """A random SAE for `model`; its token filter leaves special tokens and the two longest tokens of a sample alone."""
    ids = model.tokenize("the golden gate bridge, a cat")
    norms = model.activations(ids, hook_name)[0, 1:].norm(dim=-1).sort().values
    token_filter = sk.TokenFilter(special_ids=tuple(sorted(model.special_ids)), max_norm=float(norms[-4:-2].mean()))
    config = sk.SAEConfig(
        d_in=model.hook_width(hook_name),
        d_sae=d_sae,
        activation=activation,
        k=None if activation == "relu" else 5,
        hook_name=hook_name,
        model_name=model.name,
        weight_processing=model.weight_processing,
        token_filter=token_filter,
    )
    sae = sk.SAE(config)
    g = torch.Generator().manual_seed(seed)
    scale = float(norms.median())
    with torch.no_grad():
        directions = torch.nn.functional.normalize(torch.randn(sae.W_dec.shape, generator=g), dim=1)
        sae.W_dec.copy_(directions)
        sae.W_enc.copy_(directions.T)
        sae.b_enc.copy_(0.05 * scale * torch.randn(sae.b_enc.shape, generator=g))
        if activation == "batchtopk":
            sae.threshold.fill_(0.1 * scale)
    return sae.eval()


def holds(condition: sk.Where, token: int, x: Tensor) -> bool:
    if condition.sae is None:
        held = token in condition.ids
    else:
        held = bool(condition.sae.encode(x[None])[0, condition.feature] > condition.above)
    return held != condition.negated


def factor(schedule: sk.Schedule | None, n_new: int) -> float:
    if schedule is None:
        return 1.0
    at, factors = zip(*schedule.points, strict=True)
    if schedule.between:
        return float(np.interp(n_new, at, factors))
    return factors[max([i for i, n in enumerate(at) if n <= n_new], default=0)]


def slow_reference(model: Any, prompt: str, edits: list[sk.Edit], n_new: int) -> list[int]:
    """Greedy tokens: the whole text is run again for each, and each token's activation is edited on its own."""
    ids = model.tokenize(prompt)
    n_prompt = len(ids)
    for _ in range(n_new):

        def edited(x: Tensor, edits: list[sk.Edit]) -> Tensor:
            rows = []
            for position, (token, arrived) in enumerate(zip(ids, x[0], strict=True)):
                row = arrived
                for edit in edits:
                    token_filter = edit.token_filter
                    wanted = {"all": True, "prompt": position < n_prompt, "generated": position >= n_prompt}
                    if (
                        not wanted[edit.positions]
                        or token in token_filter.special_ids
                        or arrived.norm() > token_filter.max_norm
                    ):
                        continue
                    if not all(holds(condition, token, arrived) for condition in edit.where):
                        continue
                    before, share = row, factor(edit.schedule, max(position - n_prompt, 0))
                    if isinstance(edit, DirectionEdit):
                        rows_of = edit.direction.vectors
                        if edit.kind == "add_direction":
                            size = edit.value * (arrived.norm() if edit.unit == "norm" else 1)
                            row = row + size * rows_of[0] / rows_of[0].norm()
                        else:  # the part in their span, by least squares
                            weights = torch.linalg.lstsq(rows_of.T, row[:, None]).solution
                            row = row - (rows_of.T @ weights)[:, 0]
                        row = before + share * (row - before)
                        continue
                    sae = edit.sae
                    acts = sae.encode(row[None])[0]
                    error = row - sae.decode(acts[None])[0]
                    for i, value in zip(edit.features, edit.values, strict=True):
                        target = value * arrived.norm() if edit.unit == "norm" else value
                        changed = {
                            "clamp": target,
                            "ablate": 0,
                            "add": acts[i] + target,
                            "scale": value * acts[i],
                            "cap": min(acts[i], target),
                        }
                        acts[i] = changed[edit.kind]
                    row = before + share * (sae.decode(acts[None])[0] + error - before)
                rows.append(row)
            return torch.stack(rows)[None]

        hooks = {}
        for name in dict.fromkeys(e.hook_name for e in edits):
            hooks[name] = lambda x, name=name: edited(x, [e for e in edits if e.hook_name == name])
        logits, _ = model.forward([ids], hooks=list(hooks.items()))
        token = int(logits[0, -1].argmax())
        if token == model.eos_id:
            break
        ids.append(token)
    return ids[n_prompt:]


def along(sae: Any, features: Any) -> sk.Direction:
    rows = 3 * sae.W_dec[list(features)]
    return sk.Direction(rows, hook_name=sae.config.hook_name, token_filter=sae.config.token_filter)


def edit_sets(model: Any, activation: str) -> dict[str, list[sk.Edit]]:
    sae = make_sae(model, activation)
    later = make_sae(model, "relu", hook_name=LATER, seed=3)
    raw = 2 * float(model.activations(model.tokenize("the cat"), HOOK)[0, 1:].norm(dim=-1).mean())
    return {
        "none": [],
        "clamp": [sk.clamp(sae, {3: raw, 9: 0.0})],
        "clamp prompt": [sk.clamp(sae, {3: 1.5}, unit="norm", positions="prompt")],
        "clamp generated": [sk.clamp(sae, {3: 1.5}, unit="norm", positions="generated")],
        "scale": [sk.scale(sae, dict.fromkeys(range(20), -8.0))],
        "ablate": [sk.ablate(sae, range(64))],
        "add generated": [sk.add(sae, {5: raw}, positions="generated")],
        "cap": [sk.cap(sae, dict.fromkeys(range(64), 0.0))],
        "stops": [sk.clamp(sae, {3: 1.5}, unit="norm", schedule=sk.Schedule.steps({0: 1, 2: 0}))],
        "rises": [sk.clamp(sae, {3: 2.5}, unit="norm", schedule=sk.Schedule.linear({1: 0, 4: 1}))],
        "some tokens": [sk.clamp(sae, {3: 1.5}, unit="norm", where=sk.Where.token(model, "[c-m].*"))],
        "firing": [sk.clamp(sae, {3: 1.5}, unit="norm", where=~sk.Where.fires(sae, 5, above=0.05 * raw))],
        "direction": [sk.add_direction(along(sae, [3]), 1.5)],
        "raw direction": [sk.add_direction(along(sae, [3]), raw, unit="raw", positions="generated")],
        "project out": [sk.project_out(along(sae, range(16)))],
        "several": [
            sk.clamp(later, {2: raw}, positions="generated"),
            sk.clamp(sae, {3: 0.8}, unit="norm"),
            sk.scale(sae, {3: 0.5}, positions="prompt"),
            sk.add(later, {2: 0.5}, unit="norm"),
        ],
    }
