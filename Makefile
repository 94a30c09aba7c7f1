# Every target sets up what it needs: `make demo`, `make test`, `make docs`, ... The workflows in .github run the same ones.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet install --disable-pip-version-check --constraint constraints.txt

# For glibc: what a large array leaves is kept for the next one; the tests take a twentieth less.
KEEP_MEMORY := MALLOC_MMAP_THRESHOLD_=1000000000 MALLOC_TRIM_THRESHOLD_=1000000000

.PHONY: demo test lint coverage docs notebooks wheel clean

demo: $(VENV)/.runtime
	$(BIN)/infarct demo --out infarct-demo --overwrite

# One thread for each of two processes: more would only get in each other's way.
test: $(VENV)/.development lint
	OMP_NUM_THREADS=1 $(KEEP_MEMORY) $(BIN)/pytest --numprocesses 2 --dist loadfile

# The tests again, with the minimum of pyproject.toml for the covered lines.
coverage: $(VENV)/.development
	OMP_NUM_THREADS=1 $(KEEP_MEMORY) $(BIN)/pytest --numprocesses 2 --dist loadfile --cov --cov-report term --cov-report html:htmlcov

lint: $(VENV)/.development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The site: docs/_build/index.html.
docs: $(VENV)/.documentation
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build

# Runs the example notebooks of the site and stores their output in them.
notebooks: $(VENV)/.documentation
	$(BIN)/python docs/examples/execute.py

# Builds the package, installs it where nothing else is, and segments the demo scan with it.
wheel: $(VENV)/.development
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv dist/check
	dist/check/bin/python -m pip --quiet install --disable-pip-version-check --constraint constraints.txt dist/*.whl
	dist/check/bin/infarct models verify
	dist/check/bin/infarct demo --out dist/demo

clean:
	rm -rf $(VENV) infarct-demo docs/_build docs/_generated dist htmlcov

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
