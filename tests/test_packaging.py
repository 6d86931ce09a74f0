"""Every set-up file says the same, and the wheel holds what it must."""

import os
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


FLOOR = ROOT / "requirements-floor.txt"
NOT_INSTALLED = {"torch", "transformer-lens"}
"""Dependencies that the floor test takes from the environment: gigabytes, and one that allows one version only."""


def floor_pins():
    return {requirement_name(x): x.split("==")[1] for x in FLOOR.read_text().splitlines() if "==" in x}


def test_the_floor_file_holds_the_lowest_version_of_every_dependency():
    from packaging.requirements import Requirement
    from packaging.version import Version

    pins = floor_pins()
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        requirement = Requirement(line)
        if requirement_name(requirement.name) in NOT_INSTALLED:
            continue
        lowest = next(s.version for s in requirement.specifier if s.operator == ">=")
        assert Version(pins[requirement_name(requirement.name)]) == Version(lowest), line


def test_what_colab_pins_is_allowed():
    from packaging.requirements import Requirement

    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ranges = {requirement_name(r): Requirement(r).specifier for r in dependencies}
    for name, version in {"pandas": "2.2.2", "numpy": "2.0.2", "ipywidgets": "7.7.1"}.items():
        assert ranges[name].contains(version), name


@pytest.mark.slow
def test_the_core_path_runs_on_the_oldest_versions(tmp_path):
    """Tokenize, train, index, search, score, plot, widgets: their own tests, on the floor versions."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*install, "--target", str(tmp_path), "--requirement", str(FLOOR)], check=True)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1"}
    versions = "import numpy, pandas, ipywidgets; print(numpy.__version__, pandas.__version__, ipywidgets.__version__)"
    seen = subprocess.run(
        [sys.executable, "-c", versions], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    pins = floor_pins()
    assert seen.stdout.split() == [pins["numpy"], pins["pandas"], pins["ipywidgets"]]
    names = ["index_search", "specificity", "plotting", "corpus", "training", "widgets_browser"]
    chosen = [f"tests/test_{name}.py" for name in names]
    command = [sys.executable, "-m", "pytest", *chosen, "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-m", "not slow and not real and not browser"],
        env=environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_every_theme_variable_has_a_fallback():
    """Colab has no --jp-* or --vscode-* variables; page.css defines its own, on a page that is always saekit's."""
    sheets = [p for p in (ROOT / "widgets" / "src").rglob("*") if p.suffix in {".css", ".ts"} and p.name != "page.css"]
    bare = [
        f"{p.name}: {found}"
        for p in sheets
        for found in re.findall(r"var\(\s*--(?:jp|vscode)-[\w-]+\s*\)", p.read_text())
    ]
    assert len(sheets) > 10 and bare == []
    page = (ROOT / "widgets" / "src" / "page.css").read_text()
    defined = set(re.findall(r"(--jp-[\w-]+):", page))
    assert set(re.findall(r"var\((--jp-[\w-]+)", page)) <= defined


@pytest.mark.slow
def test_the_wheel_holds_bundles_corpus_and_types(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True)
    wheel = zipfile.ZipFile(next(tmp_path.glob("*.whl")))
    names = set(wheel.namelist())
    static = {f"saekit/static/{p.name}" for p in (PACKAGE / "static").iterdir()}
    assert {"saekit/py.typed", "saekit/__init__.pyi", "saekit/data/demo_corpus.parquet"} | static <= names
    assert len(static) >= 8 and not [n for n in names if n.endswith(".ts")]
    assert {name.split("/")[0].split("-")[0] for name in names} == {"saekit"}, "recipes stay in the repository"
    assert {
        f"saekit/pretrained/{p.relative_to(PACKAGE / 'pretrained')}"
        for kind in ("*.safetensors", "labels.json")
        for p in (PACKAGE / "pretrained").rglob(kind)
    } <= names
    metadata = wheel.read(next(n for n in names if n.endswith(".dist-info/METADATA"))).decode()
    targets = re.findall(r"\]\(([^)\s]+)\)", metadata)
    assert len(targets) > 5 and not [t for t in targets if not t.startswith(("https://", "#"))]
    assert "![The feature browser with an open card](https://" in metadata
