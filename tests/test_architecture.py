"""Imports point one way, files stay small, nothing happens on import, and every set-up file says the same."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import saekit as sk

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "saekit"
BASE = {"errors", "atomic_io", "hook_points"}
MAY_IMPORT = {
    "errors": set(),
    "atomic_io": {"errors"},
    "hook_points": {"errors"},
    "plotting": {"errors"},
    "sae": BASE,
    "synthetic": BASE | {"sae"},
    "models": BASE,
    "corpus": BASE | {"models"},
    "activations": BASE | {"models", "corpus", "sae"},
    "training": BASE | {"models", "corpus", "sae", "activations", "evaluation"},
    "evaluation": BASE | {"models", "corpus", "sae", "activations"},
    "scaling": BASE | {"models", "corpus", "sae", "activations", "training"},
    "index": BASE | {"models", "corpus", "sae", "activations"},
    "specificity": BASE | {"index", "sae", "models", "corpus"},
    "steering": BASE | {"specificity", "index", "sae", "models", "corpus", "activations"},
    "widgets": None,
    "demo": None,
    "cli": None,
}


def modules():
    return [p for p in PACKAGE.rglob("*.py") if "static" not in p.parts]


def imported_parts(path):
    """The parts of saekit that a module needs when it is imported: lazy imports inside functions do not count, and
    neither do those for type checkers only."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    found = set()
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        for inner in ast.walk(node) if isinstance(node, (ast.If, ast.Try)) else [node]:
            if isinstance(inner, ast.ImportFrom):
                if inner.level:
                    base = parts[: len(parts) - inner.level]
                    names = [*base, *(inner.module or "").split(".")] if inner.module else list(base)
                    names = [n for n in names if n]
                    found |= {names[0]} if names else {alias.name for alias in inner.names}
                elif inner.module and inner.module.split(".")[0] == "saekit":
                    found |= {*inner.module.split(".")[1:2]}
            elif isinstance(inner, ast.Import):
                found |= {a.name.split(".")[1] for a in inner.names if a.name.startswith("saekit.")}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    part = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if part in ("__init__", "__main__") or MAY_IMPORT[part] is None:
        return
    assert imported_parts(path) - {part, "plotting"} <= MAY_IMPORT[part]


@pytest.mark.parametrize("library", ["transformer_lens", "anywidget", "circuitsvis"])
def test_a_library_has_one_home(library):
    home = "models" if library == "transformer_lens" else "widgets"
    users = {
        p.relative_to(PACKAGE).parts[0]
        for p in modules()
        if re.search(rf"^\s*(from|import) {library}\b", p.read_text(), re.MULTILINE)
    }
    assert users <= {home}


def test_files_stay_readable():
    sources = [*modules(), *(ROOT / "widgets" / "src").rglob("*.ts"), *(ROOT / "tests").rglob("*.py")]
    long = {str(p.relative_to(ROOT)): n for p in sources if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def test_every_module_says_what_it_is():
    assert [str(p) for p in modules() if not ast.get_docstring(ast.parse(p.read_text()))] == []


def test_importing_opens_no_socket_and_starts_no_thread():
    script = """
import random, socket, sys, threading
import torch
def refuse(*a, **k): raise AssertionError("a socket was opened")
socket.socket.connect = refuse
before = threading.active_count(), torch.get_rng_state(), random.getstate()
import saekit
assert threading.active_count() == before[0]
assert torch.equal(torch.get_rng_state(), before[1]) and random.getstate() == before[2]
assert "plotly" not in sys.modules and "sklearn" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_public_names_of_the_contract_exist():
    names = """load_model load_corpus SAE SAEConfig SAEOutput TrainConfig Trainer StepMetrics train evaluate Evaluation
    build_index load_index FeatureIndex FeatureRecord load_sae list_saes highlight explore steer card Concept
    specificity SpecificityResult rank_features clamp scale ablate add generate Generation dose_response SteeringStudy
    synthetic recovery Recovery TokenFilter save_page tokenize cache_activations open_activations activation_batches
    sparse_probing targeted_probe_perturbation spurious_correlation_removal feature_absorption ablation_sparsity
    compute_fraction scaling_study ScalingStudy register_architecture
    TrainingMonitor TensorBoardLogger WandbLogger TrainedSAEs Comparison compare"""
    assert [n for n in names.split() if not hasattr(sk, n)] == []


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
    assert {"saekit/py.typed", "saekit/data/demo_corpus.parquet"} | static <= names
    assert len(static) >= 8 and not [n for n in names if n.endswith(".ts")]
    assert {name.split("/")[0].split("-")[0] for name in names} == {"saekit"}, "recipes stay in the repository"
