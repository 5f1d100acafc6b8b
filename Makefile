# `make` alone prints the targets. Everything is installed into $(VENV), nothing outside of it.

VENV ?= .venv
JOBS ?= 2
EPOCHS ?= 10

# the interpreter the private environment is made with: the first of at least 3.11
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
MNIST := data/mnist
LINTED := src tests benchmarks

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast check format bench clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make a private environment in .venv (again only when dependencies change)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python of at least 3.11 found; name one: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make environments; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## train on real digits, alone and with pellucid, and compare (DATA=mnist for MNIST)
ifeq ($(DATA),mnist)
	$(PY) benchmarks/mnist.py $(MNIST)
	$(PY) benchmarks/demo.py --epochs 2 --mnist $(MNIST)
else
	$(PY) benchmarks/demo.py --epochs $(EPOCHS)
endif

test: $(STAMP)  ## run all tests (JOBS=2 at a time; those that need a GPU skip themselves without)
	$(PY) -m pytest -n $(JOBS) --dist loadgroup

test-fast: $(STAMP)  ## run the tests that take no more than a few seconds each
	$(PY) -m pytest -n $(JOBS) --dist loadgroup -m 'not slow'

check: $(STAMP)  ## format, lint, types, layers: what CI asks beside the tests
	$(PY) -m ruff format --check $(LINTED)
	$(PY) -m ruff check $(LINTED)
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

format: $(STAMP)  ## rewrite the code as `make check` wants it
	$(PY) -m ruff format $(LINTED)
	$(PY) -m ruff check --fix $(LINTED)

bench: $(STAMP)  ## measure exact mode against plain python and DDP (10 minutes or so on 2 cores)
	$(PY) benchmarks/exact.py

clean:  ## remove the environment and all caches
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
