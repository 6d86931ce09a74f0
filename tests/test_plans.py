"""A plan has everything that a result depends on: whatever differs is named, and parts of two plans never mix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import saekit as sk
from conftest import HOOK, tiny_sae
from saekit.errors import FileError, MismatchError
from saekit.index import parts
from saekit.json_files import sealed
from saekit.training.run_folder import origin_of

CHUNK = 8
OTHER_FILTER = sk.TokenFilter(special_ids=(0, 1, 2), max_norm=3.25)


@pytest.fixture(scope="module")
def sae(model: Any) -> Any:
    return tiny_sae(model)


def refiltered(sae: sk.SAE, **changes: Any) -> sk.SAE:
    """An SAE with the same weights, and so the same fingerprint, whose configuration says something else."""
    other = sk.SAE(sae.config.replace(**changes))
    other.load_state_dict(sae.state_dict())
    assert other.fingerprint == sae.fingerprint
    return other


# ---- an index -------------------------------------------------------------------------------------------------------


def stopped(model: Any, sae: Any, corpus: Any, out: Path, monkeypatch: Any, n: int = 3) -> None:
    """A build that is stopped after n parts."""
    real, done = parts.IndexEncoder.run, []

    def run(self: Any, windows: Any, bar: Any = None) -> Any:
        if len(done) == n:
            raise KeyboardInterrupt
        done.append(1)
        return real(self, windows, bar)

    monkeypatch.setattr(parts, "CHUNK_WINDOWS", CHUNK)
    monkeypatch.setattr(parts.IndexEncoder, "run", run)
    with pytest.raises(KeyboardInterrupt):
        sk.build_index(model, sae, corpus, out=out, length=32, progress=False)
    monkeypatch.setattr(parts.IndexEncoder, "run", real)


def test_an_index_is_not_resumed_or_opened_under_another_token_filter(
    model: Any, sae: Any, corpus: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    out, other = tmp_path / "index", refiltered(sae, token_filter=OTHER_FILTER)
    stopped(model, sae, corpus, out, monkeypatch)
    with pytest.raises(MismatchError, match=r"unfinished index of another token filter"):
        sk.build_index(model, other, corpus, out=out, length=32, progress=False)
    sk.build_index(model, sae, corpus, out=out, length=32, progress=False)
    for resume in (True, False):
        with pytest.raises(MismatchError, match=r"holds the index of another token filter"):
            sk.build_index(model, other, corpus, out=out, length=32, resume=resume, progress=False)


def test_an_index_of_half_precision_activations_is_another_one(
    model: Any, sae: Any, corpus: Any, tmp_path: Path
) -> None:
    caches = [
        sk.cache_activations(
            model, corpus, HOOK, tmp_path / t, token_filter=sae.config.token_filter, length=32, dtype=t, progress=False
        )
        for t in ("float32", "bfloat16")
    ]
    sk.build_index(model, sae, caches[0], out=tmp_path / "index", progress=False)
    with pytest.raises(MismatchError, match="holds the index of another activations"):
        sk.build_index(model, sae, caches[1], out=tmp_path / "index", progress=False)


def test_a_part_of_another_plan_is_computed_again_and_leftovers_go(
    model: Any, sae: Any, corpus: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    whole = sk.build_index(model, sae, corpus, out=tmp_path / "whole", length=32, progress=False)
    stopped(model, sae, corpus, tmp_path / "index", monkeypatch)
    stopped(model, tiny_sae(model, seed=1), corpus, tmp_path / "other", monkeypatch)
    foreign = tmp_path / "other" / "parts" / "000001.safetensors"
    foreign.replace(tmp_path / "index" / "parts" / "000001.safetensors")
    (tmp_path / "index" / "parts" / ".000007.safetensors.01234567.part").touch()
    (tmp_path / "index" / ".features.parquet.01234567.part").touch()
    index = sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    assert abs(index.matrix - whole.matrix).max() < 1e-4
    (tmp_path / "index" / "parts").mkdir()  # of a run that was killed when it had just finished
    (tmp_path / "index" / "parts" / "plan.json").write_text("{}")
    sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, progress=False)
    assert sorted(p.name for p in (tmp_path / "index").iterdir()) == sorted(
        p.name for p in (tmp_path / "whole").iterdir()
    )


def test_a_linked_folder_of_parts_keeps_what_is_not_saekits(model: Any, sae: Any, corpus: Any, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "notes.txt").write_text("mine")
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "parts").symlink_to(tmp_path / "scratch")
    for resume in (False, True):
        sk.build_index(model, sae, corpus, out=tmp_path / "index", length=32, resume=resume, progress=False)
        assert (tmp_path / "index" / "parts").is_symlink()
        assert [p.name for p in (tmp_path / "scratch").iterdir()] == ["notes.txt"]


# ---- a steering study -----------------------------------------------------------------------------------------------


def study(model: Any, sae: Any, out: Path, **changes: Any) -> sk.SteeringStudy:
    settings = {"chat": False, "max_new_tokens": 3, "controls": 0, "progress": False, "unit": "raw"} | changes
    concept = sk.Concept.regex("[aeiou]")
    return sk.dose_response(model, sae, 3, ["the cat", "a"], concept, [2.0], out=out, **settings)


def test_a_study_is_of_one_token_filter_hook_point_and_set_of_maxima(llama: Any, corpus: Any, tmp_path: Path) -> None:
    sae = tiny_sae(llama)
    texts = [d.text for d in corpus]
    short, long = (
        sk.build_index(llama, sae, texts[:n], out=tmp_path / f"index-{n}", length=32, progress=False) for n in (3, 40)
    )
    assert short.features["max"][3] != long.features["max"][3]
    first = study(llama, sae, tmp_path / "max", unit="max", index=short).to_frame()
    with pytest.raises(MismatchError, match="holds another study") as e:
        study(llama, sae, tmp_path / "max", unit="max", index=long)
    assert "maxima" in str(e.value)
    assert study(llama, sae, tmp_path / "max", unit="max", index=short).to_frame().equals(first)

    study(llama, sae, tmp_path / "raw")
    for changed, said in (
        ({"token_filter": OTHER_FILTER}, "token_filter differ"),
        ({"hook_name": "blocks.1.hook_resid_post"}, "hook_name"),
        ({"prepend_bos": False}, "read differ"),
    ):
        with pytest.raises(MismatchError, match="holds another study") as e:
            study(llama, refiltered(sae, **changed), tmp_path / "raw")
        assert said in str(e.value), changed


def test_a_study_of_an_earlier_version_is_read_and_texts_of_another_study_are_refused(
    llama: Any, tmp_path: Path
) -> None:
    sae = tiny_sae(llama)
    first = study(llama, sae, tmp_path).to_frame()
    plan = json.loads((tmp_path / "study.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "texts.jsonl").read_text().splitlines()]
    assert len({line["plan"] for line in lines}) == 1 and "plan" not in first
    foreign = "".join(json.dumps(sealed({**line, "plan": "0123456789abcdef"})) + "\n" for line in lines)
    (tmp_path / "texts.jsonl").write_text(foreign)
    with pytest.raises(FileError, match=r"texts.jsonl belongs to another run than the rest of its folder"):
        study(llama, sae, tmp_path)
    for name in ("hook_name", "token_filter", "edits", "maxima", "read", "dtype", "checksum"):
        plan.pop(name, None)
    (tmp_path / "study.json").write_text(json.dumps(plan))
    earlier = "".join(
        json.dumps({k: v for k, v in line.items() if k not in ("plan", "checksum")}) + "\n" for line in lines
    )
    (tmp_path / "texts.jsonl").write_text(earlier)
    assert study(llama, sae, tmp_path).to_frame().equals(first)


# ---- edits in files -------------------------------------------------------------------------------------------------


def test_a_saved_edit_is_of_one_hook_point_and_token_filter(llama: Any, tmp_path: Path) -> None:
    sae = tiny_sae(llama)
    edit = sk.clamp(sae, {3: 2.0})
    path = sk.steered(llama, edit).save(tmp_path / "calm.json")
    elsewhere = refiltered(sae, hook_name="blocks.1.hook_resid_post")
    with pytest.raises(MismatchError, match=r"made for another hook name[\s\S]*blocks.1[\s\S]*blocks.0"):
        sk.load_steered(llama, path, elsewhere)
    with pytest.raises(MismatchError, match="made for another token filter"):
        sk.load_steered(llama, path, refiltered(sae, token_filter=OTHER_FILTER))
    assert sk.load_steered(llama, path, [elsewhere, sae]).edits == (edit,)
    earlier = edit.to_dict()
    del earlier["token_filter"]
    assert sk.Edit.from_dict(earlier, sae) == edit
    direction = sk.add_direction(sk.Direction(torch.ones(32), hook_name=HOOK, name="ones"), 0.5)
    assert sk.Edit.from_dict(json.loads(json.dumps(direction.to_dict()))) == direction


# ---- activations and training ---------------------------------------------------------------------------------------


def test_a_shard_of_another_cache_is_refused(model: Any, corpus: Any, tmp_path: Path) -> None:
    sk.cache_activations(model, corpus, HOOK, tmp_path, length=16, progress=False)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["token_filter"]["max_norm"] = 3.25
    del manifest["checksum"]  # as one who changes it on purpose does
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    for read in (
        lambda: sk.open_activations(tmp_path, verify=False),
        lambda: sk.cache_activations(model, corpus, HOOK, tmp_path, length=16, progress=False),
    ):
        with pytest.raises(FileError, match=r"shard-00000.safetensors belongs to another run"):
            read()


def test_batches_that_do_not_say_their_origin_are_known_by_what_their_state_is_checked_by(
    model: Any, corpus: Any
) -> None:
    class Silent:
        origin = None

        def __init__(self, **identity: Any) -> None:
            self.identity = identity

        def state_dict(self) -> dict[str, Any]:
            return {"identity": self.identity}

    one, same, other = (origin_of(Silent(text=t)) for t in ("a", "a", "b"))  # type: ignore[arg-type]
    assert one == same and one is not None and other is not None and one["digest"] != other["digest"]
    nothing: Any = type("Nothing", (), {"origin": None})()
    assert origin_of(nothing) is None
