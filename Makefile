# Every target installs what it needs. The workflows in .github run the same targets.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet install --disable-pip-version-check --constraint constraints.txt

# For glibc: memory freed by large arrays is reused, which makes the tests 5% faster.
KEEP_MEMORY := MALLOC_MMAP_THRESHOLD_=1000000000 MALLOC_TRIM_THRESHOLD_=1000000000

.PHONY: demo test lint coverage docs notebooks web wheel clean

demo: $(VENV)/.runtime
	$(BIN)/infarct demo --out infarct-demo --overwrite

# Two processes with one thread each; more threads would compete for the cores.
test: $(VENV)/.development lint
	OMP_NUM_THREADS=1 $(KEEP_MEMORY) $(BIN)/pytest --numprocesses 2 --dist loadfile

# The tests with coverage; the minimum is in pyproject.toml.
coverage: $(VENV)/.development
	OMP_NUM_THREADS=1 $(KEEP_MEMORY) $(BIN)/pytest --numprocesses 2 --dist loadfile --cov --cov-report term --cov-report html:htmlcov

lint: $(VENV)/.development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The site: docs/_build/html/index.html.
docs: $(VENV)/.documentation
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet -d docs/_build/doctrees docs docs/_build/html

# Installing builds the viewer as well; this builds it again.
web: $(VENV)/.development
	$(BIN)/python src/infarct/web/bundle.py

# Runs the example notebooks and stores their output in them.
notebooks: $(VENV)/.documentation $(VENV)/.development
	$(BIN)/python docs/examples/execute.py

# Builds the package, installs it in a clean environment and segments the demo scan.
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
