"""Every kind of file that saekit writes: how one is made, and what reading it gives, as values that can be compared."""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import saekit as sk
from conftest import HOOK, tiny_sae, tiny_texts
from saekit.index import parts
from saekit.models import default_model
from saekit.sae.formats import releases
from saekit.steering.study_log import StudyLog
from saekit.training.checkpoints import load_checkpoint, save_checkpoint

Make, Read = Callable[[Path], None], Callable[[Path], Any]


@dataclass(frozen=True)
class Kind:
    """A kind of folder: `recovered(result, expected)` is whether a result is of damage that was noticed and mended."""

    make: Make
    read: Read
    recovered: Callable[[Any, Any], bool] = lambda result, expected: False
    by_others: bool = False
    """Whether others write such files, without hashes: a flipped number cannot be told from another SAE."""


def hashed(*tensors: Any) -> str:
    digest = hashlib.sha256()
    for x in tensors:
        array = x.detach().contiguous().numpy() if isinstance(x, torch.Tensor) else np.ascontiguousarray(x)
        digest.update(f"{array.shape} {array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()


def of_sae(sae: Any) -> Any:
    density = None if sae.density is None else hashed(sae.density)
    weights = hashed(*(getattr(sae, name) for name in ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")))
    return repr(sae.config.to_dict()), weights, density, repr(sae.training_summary)


def trained(out: Path, **config: Any) -> Any:
    x = torch.randn(256, 16, generator=torch.Generator().manual_seed(0))
    settings = {"n_tokens": 512, "batch_size": 64, "log_every": 1, "warmup_steps": 0} | config
    sae = sk.SAEConfig(d_in=16, d_sae=32, activation="topk", k=4)
    return sk.train(None, x, sae=sae, hook_name=HOOK, config=sk.TrainConfig(**settings), out=out, progress=False)


def of_run(folder: Path) -> Any:
    run = trained(folder)
    return *of_sae(run), run.history.to_csv()


def make_checkpoints(folder: Path) -> None:
    sae = sk.SAE(sk.SAEConfig(d_in=4, d_sae=8, activation="topk", k=2))
    for step in (5, 6):
        save_checkpoint(
            folder,
            step,
            {"step": step, "trainers": [torch.ones(3)], "batches": {"n": step}},
            {"sae": sae},
            "0123456789abcdef",
        )


def make_parts(model: Any, folder: Path) -> None:
    chunk, encoder = windows(model), parts.IndexEncoder(model, tiny_sae(model), HOOK, sk.TokenFilter(), 8)
    folder.mkdir()
    parts._write_part(folder / "000000.safetensors", encoder.run(chunk), chunk, "plan")


def of_parts(model: Any, folder: Path) -> Any:
    file = folder / "000000.safetensors"
    return parts._is_done(file, windows(model), "plan") and hashed(*parts._load(file).values())


def windows(model: Any) -> sk.Windows:
    return sk.tokenize(sk.load_corpus(tiny_texts(8)), model, length=16)


def of_cache(folder: Path) -> Any:
    cache = sk.open_activations(folder)
    facts = cache.provenance, cache.token_filter, cache.hook_name, cache.widths, cache.digest, cache.windows.digest
    return hashed(cache.x(slice(None)), cache.position), repr(facts), cache.windows.labels.to_csv()


def of_index(folder: Path) -> Any:
    index = sk.load_index(folder)
    record = index.feature(int(index.features["n_firings"].idxmax()))
    told = [f.to_csv() for f in (index.features, index.documents, record.to_frame())]
    arrays = hashed(index.matrix.data, index.matrix.indices, index.kept, index.by_feature.value)
    return told, arrays, index.windows.digest, repr(index.manifest), [c.text for c in record.top], index.vocabulary


DESCRIBED = {"model": "tiny", "features": [3], "strengths": [0.5], "temperature": 0.0}


def make_study(folder: Path) -> None:
    record = {"condition": "feature", "feature": 3, "strength": 0.5, "prompt": "the cat", "seed": 0, "text": " sat on"}
    record |= {"tokens": [5, 6], "concept_present": True, "nll": 2.5, "repetition": 0.0, "n_tokens": 2}
    record |= {"finish_reason": "length"}
    StudyLog(folder, DESCRIBED).append([record, record | {"prompt": "the bay ü", "nll": None, "feature": None}])


def fewer(result: Any, expected: Any) -> bool:
    """Whether only texts are missing, which the study then writes again."""
    return all(expected[key] == record for key, record in result.items())


def make_steered(model: Any, folder: Path) -> None:
    sae = tiny_sae(model)
    direction = sk.Direction(
        torch.linspace(-1, 1, 32), hook_name=HOOK, name="calm", token_filter=sae.config.token_filter
    )
    edits = [
        sk.clamp(
            sae, {3: 0.5}, unit="norm", where=sk.Where.token(model, "a|b"), schedule=sk.Schedule.steps({0: 1, 8: 0})
        ),
        sk.ablate(sae, [1, 2], where=~sk.Where.fires(sae, 7, above=0.25)),
        sk.add_direction(direction, 0.4),
    ]
    sk.steered(model, edits).save(folder / "calm.json")


def of_steered(model: Any, folder: Path) -> Any:
    return repr([edit.to_dict() for edit in sk.load_steered(model, folder / "calm.json", tiny_sae(model)).edits])


def make_default_model(folder: Path) -> None:
    folder.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (folder / name).write_text("{}" if name.endswith(".json") else name)
    digests = {f.name: default_model.sha256(f) for f in sorted(folder.iterdir())}
    default_model.write_json(
        folder / default_model.MANIFEST, default_model.sealed({"source": "a.gguf", "sha256": digests})
    )


def of_releases(folder: Path) -> Any:
    before, releases.TABLE = releases.TABLE, folder / "releases.json"
    try:
        return repr(releases.table.__wrapped__())
    finally:
        releases.TABLE = before


def make_sae(folder: Path) -> None:
    config = sk.SAEConfig(d_in=8, d_sae=16, activation="batchtopk", k=2, hook_name=HOOK, model_name="tiny")
    token_filter = sk.TokenFilter(special_ids=(0, 2), max_norm=9.25)
    sae = sk.SAE(config.replace(token_filter=token_filter, context_size=64, model_fingerprint="0123456789abcdef"))
    sae.density = torch.linspace(0.01, 0.5, 16)
    sae.training_summary = {"finished": True, "l0": 2.0, "config": {"seed": 0}}
    sae.save(folder)


def make_foreign(folder: Path) -> None:
    """An SAE as SAELens writes it."""
    import json

    make_sae(folder)
    cfg = json.loads((folder / "cfg.json").read_text())
    del cfg["metadata"]["saekit"]
    (folder / "cfg.json").write_text(json.dumps(cfg))


def kinds(model: Any) -> dict[str, Kind]:
    """Every kind by its name."""
    from functools import partial

    def make_cache(folder: Path) -> None:
        sk.cache_activations(model, windows(model), HOOK, folder, progress=False)

    def make_index(folder: Path) -> None:
        sk.build_index(model, tiny_sae(model), windows(model), out=folder, progress=False)

    def make_table(folder: Path) -> None:
        """The table of releases, with two of them."""
        import json

        table = json.loads(releases.TABLE.read_text())
        table["releases"] = dict(list(table["releases"].items())[:2])
        folder.mkdir()
        (folder / "releases.json").write_text(json.dumps(default_model.sealed(table)))

    return {
        "SAE": Kind(make_sae, lambda folder: of_sae(sk.load_sae(folder))),
        "SAE of SAELens": Kind(make_foreign, lambda folder: of_sae(sk.load_sae(folder)), by_others=True),
        "run": Kind(trained, of_run),
        "checkpoints": Kind(
            make_checkpoints,
            lambda folder: repr(load_checkpoint(folder)),
            recovered=lambda result, expected: "'step': 5" in result or result == "None",
        ),
        "cache": Kind(make_cache, of_cache),
        "index": Kind(make_index, of_index),
        "parts of an index": Kind(
            partial(make_parts, model), partial(of_parts, model), recovered=lambda r, _: r is False
        ),
        "study": Kind(make_study, lambda folder: StudyLog(folder, DESCRIBED).read(), recovered=fewer),
        "steered model": Kind(partial(make_steered, model), partial(of_steered, model)),
        "default model": Kind(
            make_default_model, default_model.damaged_file, recovered=lambda result, _: isinstance(result, str)
        ),
        "releases": Kind(make_table, of_releases),
    }


def outcome(kind: Kind, folder: Path, file: Path, damaged: bytes, expected: Any, fresh: Path) -> str:
    """What becomes of a damaged file: "named", "recovered", "same", or a fault in words."""
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(folder, fresh, copy_function=os.link)  # whatever is written is written elsewhere and renamed
    target = fresh / file.relative_to(folder)
    target.unlink()
    target.write_bytes(damaged)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            result = kind.read(fresh)
    except sk.SaekitError as e:
        named = target.name in str(e) or str(fresh) in str(e)
        return "named" if named else f"not named: {type(e).__name__}: {e}"
    except Exception as e:
        return f"foreign: {type(e).__name__}: {e}"
    if result == expected:
        return "same"
    if kind.recovered(result, expected) or any(target.name in str(w.message) for w in warned):
        return "recovered"
    return "another result" if not kind.by_others else "same"


def files_of(folder: Path) -> list[Path]:
    """What is read of a folder: of checkpoints not the SAEs, which are as any other."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and "sae" not in p.relative_to(folder).parts)
