# make demo   train a network on handwritten digits in 4 bits and in fp32, compare the two
#             (DEMO_ARGS=--full prints the whole bill)
# make test   the whole suite          make lint   style, types, layers
# make docs   the pages as a site      make wheel  dist/*.whl
# make clean  forget everything that was made
#
# PIP_ARGS goes to every pip install, for example PIP_ARGS="--index-url https://..."
# JOBS is the number of processes that share the tests; 0 runs them in one, for a debugger.
# PYTHON names the interpreter that makes .venv (3.11 or later).

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PIP_ARGS ?=
PYTEST_ARGS ?=
JOBS ?= auto
DEMO_ARGS ?=
BIN := .venv/bin
# One thread for each math library: the tests are many and small, and those that ask for threads
# ask by name.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: demo test lint docs wheel clean
.DELETE_ON_ERROR:

demo: .venv/.demo
	$(BIN)/quatrain demo -o build/demo $(DEMO_ARGS)

test: .venv/.dev
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

lint: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/.dev
	$(BIN)/python -m tests.site
	@echo "build/site/index.html; to search, run: python -m http.server -d build/site"

wheel: .venv/.dev
	rm -rf build/lib dist
	$(BIN)/python -m pip wheel -q --no-deps $(PIP_ARGS) -w dist .

clean:
	rm -rf .venv build dist *.egg-info

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "quatrain needs Python 3.11 or later; set PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv

# .venv/.demo and .venv/.dev: the package and the extras of that name are installed.
.venv/.%: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt $(PIP_ARGS) -e '.[$*]'
	touch $@
