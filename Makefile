# Two commands do all the set-up: `make demo` and `make test`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet install --disable-pip-version-check --constraint constraints.txt

# For glibc: what a large array leaves is kept for the next one; the tests take a twentieth less.
KEEP_MEMORY := MALLOC_MMAP_THRESHOLD_=1000000000 MALLOC_TRIM_THRESHOLD_=1000000000

.PHONY: demo test lint docs clean

demo: $(VENV)/.runtime
	$(BIN)/infarct demo --out infarct-demo --overwrite

# One thread for each of two processes: more would only get in each other's way.
test: $(VENV)/.development lint
	OMP_NUM_THREADS=1 $(KEEP_MEMORY) $(BIN)/pytest --numprocesses 2 --dist loadfile

lint: $(VENV)/.development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The site: docs/_build/index.html.
docs: $(VENV)/.documentation
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build

clean:
	rm -rf $(VENV) infarct-demo docs/_build docs/_generated

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/.development: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[lab,dev]'
	touch $@ $(VENV)/.runtime

$(VENV)/.documentation: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[docs]'
	touch $@ $(VENV)/.runtime
