"""Every set-up file says the same, and the wheel holds what it must."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "saekit"


def requirement_name(line):
    return re.split(r"[<>=!~ \[;]", line, maxsplit=1)[0].lower().replace("_", "-")


def test_pins_cover_every_dependency_and_obey_its_range():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = {requirement_name(x): x.split("==")[1] for x in lines if "==" in x}
    wanted = [Requirement(r) for r in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]
    missing = [r.name for r in wanted if requirement_name(r.name) not in pins]
    outside = [str(r) for r in wanted if not r.specifier.contains(pins.get(requirement_name(r.name), "0"))]
    assert (missing, outside) == ([], [])


def test_conda_gives_the_same_environment():
    import yaml

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == project["name"]
    python = next(d for d in environment["dependencies"] if isinstance(d, str) and d.startswith("python="))
    assert project["requires-python"] == ">=" + python.split("=")[1]
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert pip == ["--requirement requirements.txt", "--editable .[dev]"]


@pytest.mark.slow
def test_the_wheel_holds_bundles_corpus_and_types(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True)
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    static = {f"saekit/static/{p.name}" for p in (PACKAGE / "static").iterdir()}
    assert {"saekit/py.typed", "saekit/__init__.pyi", "saekit/data/demo_corpus.parquet"} | static <= names
    assert len(static) >= 8 and not [n for n in names if n.endswith(".ts")]
    assert {name.split("/")[0].split("-")[0] for name in names} == {"saekit"}, "recipes stay in the repository"
