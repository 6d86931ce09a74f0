"""What is loaded when: nothing heavy before it is used, and every public name found whatever was imported before.

Each check runs in a fresh interpreter, since this one has loaded everything. What is loaded is tested, not seconds:
those are in benchmarks/startup.py.
"""

from __future__ import annotations

import ast
import inspect
import os
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import saekit as sk

HEAVY = ["torch", "transformers", "transformer_lens", "datasets", "huggingface_hub", "pandas", "pyarrow", "scipy"]
HEAVY += ["sklearn", "plotly", "anywidget", "ipywidgets", "circuitsvis"]
PACKAGE = Path(sk.__file__).parent
IMPORTS = [n for n in ast.parse((PACKAGE / "__init__.pyi").read_text()).body if isinstance(n, ast.ImportFrom)]
NAMES = {alias.name: node.module for node in IMPORTS for alias in node.names}
MODULES = [module.name for module in pkgutil.walk_packages([str(PACKAGE)], "saekit.")]
SHADOWED = [name for name, module in NAMES.items() if module and f"saekit.{name}" in MODULES]


def fresh(script: str, **environment: str) -> str:
    """What a new interpreter prints for `script`; its error fails the test."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(script: str, **environment: str) -> set[str]:
    """The heavy libraries that `script` loads."""
    report = f"\nimport sys; print('LOADED', *[n for n in {HEAVY} if n in sys.modules])"
    return set(fresh(script + report, **environment).split("LOADED")[1].split())


def test_importing_saekit_loads_nothing_heavy():
    assert loaded("import saekit as sk; dir(sk); sk.SaekitError") == set()


@pytest.mark.parametrize("name", ["SAE", "SAEConfig", "load_sae", "TokenFilter"])
@pytest.mark.slow
def test_an_autoencoder_needs_torch_alone(name):
    assert loaded(f"import saekit as sk; sk.{name}") == {"torch"}


@pytest.mark.parametrize("words", ["--help", "train --help", "evaluate --help", "generate --help"])
def test_help_loads_nothing_heavy(words):
    script = f"""
from saekit.cli import app
try:
    app({words.split()})
except SystemExit as e:
    assert e.code == 0
"""
    assert loaded(script) == set()


def test_shell_completion_loads_nothing_heavy():
    words = {"_SAEKIT_COMPLETE": "complete_bash", "COMP_WORDS": "saekit eval", "COMP_CWORD": "1"}
    script = """
from saekit.cli import app
try:
    app(prog_name="saekit")
except SystemExit as e:
    assert e.code == 0
"""
    assert loaded(script, **words) == set()
    assert "evaluate" in fresh(script, **words)


@pytest.mark.slow
def test_importing_every_name_has_no_effect():
    fresh("""
import random, socket, threading, torch
def refuse(*a, **k): raise AssertionError("a socket was opened")
socket.socket.connect = refuse
before = threading.active_count(), torch.get_rng_state(), random.getstate(), torch.get_num_threads()
import saekit as sk
for name in dir(sk):
    getattr(sk, name)
assert threading.active_count() == before[0] and torch.get_num_threads() == before[3]
assert torch.equal(torch.get_rng_state(), before[1]) and random.getstate() == before[2]
""")


@pytest.mark.slow
def test_a_figure_library_waits_for_the_first_figure():
    assert not loaded("import saekit as sk; sk.Evaluation, sk.scaling_study, sk.dose_response") & {"plotly", "sklearn"}


def test_the_stub_names_what_is_there_and_nothing_else():
    assert set(dir(sk)) == set(sk.__all__) == set(NAMES) and sk.__version__
    for name, module in NAMES.items():
        assert inspect.ismodule(getattr(sk, name)) == (module is None), name


def test_the_public_names_of_the_contract_exist():
    names = """load_model load_corpus SAE SAEConfig SAEOutput TrainConfig Trainer StepMetrics train evaluate Evaluation
    build_index load_index FeatureIndex FeatureRecord load_sae list_saes highlight explore steer card Concept
    specificity SpecificityResult rank_features clamp scale ablate add generate Generation dose_response SteeringStudy
    synthetic recovery Recovery TokenFilter save_page tokenize cache_activations open_activations activation_batches
    sparse_probing targeted_probe_perturbation spurious_correlation_removal feature_absorption ablation_sparsity
    compute_fraction scaling_study ScalingStudy
    TrainingMonitor TensorBoardLogger WandbLogger TrainedSAEs Comparison compare"""
    assert [n for n in names.split() if not hasattr(sk, n)] == []


def test_specificity_is_a_function_and_a_package():
    assert SHADOWED == ["specificity"], "each name here is tested below"


@pytest.mark.parametrize("name", SHADOWED)
@pytest.mark.parametrize("first", ["the name", "the package", "a module of it"])
@pytest.mark.slow
def test_a_name_is_not_hidden_by_the_package_of_that_name(name, first):
    path = f"saekit.{name}"
    inside = next((m for m in MODULES if m.startswith(f"{path}.")), path)
    steps = {"the name": f"sk.{name}", "the package": f"import {path}", "a module of it": f"import {inside}"}
    check = f"""
assert callable(sk.{name}) and sk.{name} is sys.modules[{path!r}].{name}
from saekit import {name} as imported
assert imported is sk.{name}
"""
    fresh(
        "import sys\nimport saekit as sk\n"
        + "".join(f"{step}\n{check}" for step in [steps.pop(first), *steps.values()])
    )


@pytest.mark.slow
def test_a_package_behind_a_function_is_imported_from_as_any_other():
    fresh("from saekit.specificity import rank_features; import saekit as sk; assert rank_features is sk.rank_features")


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(AttributeError, match="unknown name in saekit 'clampp'; did you mean 'clamp'?"):
        sk.clampp  # noqa: B018
    assert not hasattr(sk, "_repr_html_")


@pytest.mark.parametrize("name", sorted(name for name, module in NAMES.items() if module))
def test_public_names_can_be_pickled(name):
    assert pickle.loads(pickle.dumps(getattr(sk, name))) is getattr(sk, name)


def test_tab_completion_in_a_notebook_offers_every_name():
    from IPython.core.completer import IPCompleter, provisionalcompleter

    with provisionalcompleter():
        found = {c.text for c in IPCompleter(namespace={"sk": sk}, use_jedi=False).completions("sk.", 3)}
    assert set(NAMES) <= {text.removeprefix("sk").removeprefix(".") for text in found}
