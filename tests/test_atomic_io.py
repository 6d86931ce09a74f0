import os
import stat
from pathlib import Path

import pytest

import saekit as sk
from saekit.atomic_io import atomic_write, sha256, write_json
from saekit.errors import DiskFullError, FileError
from saekit.json_files import read_json
from saekit.training.config import difference


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(target) as part:
        part.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_says_so_and_keeps_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    full = Path("/dev/full")
    expected = pytest.raises(DiskFullError, match=r"no space left while writing .*a\.txt")
    with expected, atomic_write(target), full.open("w") as f:
        f.write("x" * 100_000)
    assert target.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_is_as_readable_as_the_umask_says(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_json(tmp_path / "a.json", 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == mode


def test_a_file_that_is_replaced_keeps_its_mode(tmp_path):
    write_json(tmp_path / "a.json", 1)
    for mode in (0o640, 0o600, 0o444):
        (tmp_path / "a.json").chmod(mode)
        write_json(tmp_path / "a.json", mode)
        assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == mode and read_json(tmp_path / "a.json") == mode


def test_a_link_stays_one_and_the_file_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    write_json(tmp_path / "far" / "b.json", 1)
    (tmp_path / "a.json").symlink_to("far/b.json")
    write_json(tmp_path / "a.json", 2)
    assert (tmp_path / "a.json").is_symlink() and read_json(tmp_path / "far" / "b.json") == 2
    (tmp_path / "new.json").symlink_to("far/new.json")  # leads to nothing yet
    write_json(tmp_path / "new.json", 3)
    assert (tmp_path / "new.json").is_symlink() and read_json(tmp_path / "far" / "new.json") == 3
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FileError, match="leads to itself"):
        write_json(tmp_path / "loop", 4)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.json", "b.json", "far", "loop", "new.json", "new.json"]


def test_json_round_trip_and_damage(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"ü": [1, 2.5]})
    assert read_json(path) == {"ü": [1, 2.5]}
    path.write_text(path.read_text()[:-4])
    with pytest.raises(FileError, match="not valid JSON"):
        read_json(path)
    with pytest.raises(FileError, match="no file"):
        read_json(tmp_path / "missing.json")


def test_sha256_is_the_standard_one(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_files_of_earlier_versions_give_todays_names():
    config = sk.SAEConfig(d_in=4, d_sae=8, k=2, token_filter=sk.TokenFilter(special_ids=(3,), max_norm=9.0))
    written = config.to_dict()
    written["token_rule"] = written.pop("token_filter")
    assert sk.SAEConfig.from_dict(written) == config


def test_a_run_of_an_earlier_version_is_known_by_its_older_keys():
    now = sk.TrainConfig(n_tokens=640, batch_size=64, decay_fraction=0.3, sparsity_warmup_fraction=0.1).to_dict()
    older = {"decay_share": "decay_fraction", "sparsity_warmup_share": "sparsity_warmup_fraction"}
    older["products"] = "matmul_dtype"
    saved = {**now, **{old: now[new] for old, new in older.items()}}
    for new in older.values():
        del saved[new]
    assert difference(saved, now) is None
    assert difference({**saved, "decay_share": 0.4}, now) == ("decay_fraction", 0.4, 0.3)
