# Every target builds .venv from the lock when it is missing or outdated; no other set-up is needed.
# Variables: PYTHON (the interpreter to build with), VENV (where), ARGS (passed to pytest, demo, up, down, bench, figures,
# screenshots and dist), WORKERS (processes that share the tests; 0 runs them in pytest's own process, for a debugger),
# COVERAGE (`make check` fails below this percentage).

new_enough := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c '$(new_enough)' 2>/dev/null && echo $$p; done) python3)
VENV ?= .venv
ARGS ?=
WORKERS ?= 3
COVERAGE ?= 90
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
# keep the bytecode of rewritten assertions: without it every pytest worker spends 5 s on rewriting them
unexport PYTHONDONTWRITEBYTECODE

py := $(VENV)/bin/python
locked := $(VENV)/.locked
ready := $(VENV)/.ready
uv := .venv-lock/bin/uv
pip := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 $(py) -m pip
progress := /^(Collecting|Processing) / {if (++n % 40 == 0) {print "    " n " packages found"; fflush()}} \
  /^Installing collected/ {print "    unpacking " n; fflush()}
pytest = $(py) -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder
sources := mondrian mondrian_core tasks flows deployments mini_training bench tests docs/conf.py
present = $(wildcard $(sources))

.PHONY: help setup demo up down bench figures screenshots test quick soak realsize check checks docs lint format types contracts dependencies prose slow-tests lock lock-check dist clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: $(ready)  ## train, evaluate, promote and try out an adapter on this machine, starting from nothing
	@$(py) -m mondrian demo $(ARGS)

up: $(ready)  ## start the Prefect server, a worker and the service, and leave them running
	@$(py) -m mondrian up $(ARGS)

down: $(ready)  ## stop what `make up` started
	@$(py) -m mondrian down $(ARGS)

bench: $(ready)  ## run the benchmarks
	@$(py) -m bench $(ARGS)

screenshots: $(ready)  ## make the pictures of docs/images again, which takes long; ARGS selects some
	@nice -n 10 $(py) -m bench.screenshots $(ARGS)

figures: $(ready)  ## make the tables of docs/experiments again, which takes long; ARGS selects pages or tables
	@nice -n 10 $(py) -m bench.figures $(ARGS)

test: $(ready)  ## run every test
	@$(pytest) $(ARGS) </dev/null

# these tests never wait, and each worker takes many seconds to import all of them
quick: WORKERS := 2
quick: $(ready)  ## run the fast unit tests (under a minute)
	@$(pytest) -q -m "unit and not slow and not soak" $(ARGS) </dev/null

soak: $(ready)  ## run the long tests that `make test` leaves out (half an hour or more)
	@$(pytest) -m soak -o timeout=3600 $(ARGS) </dev/null

# one process, because the whole base needs 8 GB and the tiny ones share what they load
realsize: $(ready)  ## run the matrix of real layouts, and a whole Qwen3-VL-4B with random weights (half an hour on a CPU)
	@$(py) -m pytest -p tests.realsize.matrix_table -m "" tests/realsize $(ARGS) </dev/null

# The other checks two at a time, each with its output in one piece where make can (macOS has an older one). The tests come
# after them, outside of that make: what they start must not hear of its job server.
check: $(ready)  ## everything that must hold before a commit: all checks, then all tests
	@$(MAKE) --no-print-directory --jobs=2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) checks
	@$(pytest) --cov --cov-report= --cov-fail-under=$(COVERAGE) $(ARGS) </dev/null

checks: lint types contracts dependencies prose docs  ## everything of `make check` but the tests

lint: $(ready)  ## check style, complexity and formatting
	@$(py) -m ruff check $(present)
	@$(py) -m ruff format --check $(present)

format: $(ready)  ## fix style and formatting
	@$(py) -m ruff check --fix $(present)
	@$(py) -m ruff format $(present)

types: $(ready)  ## check static types
	@$(py) -m mypy

contracts: $(ready)  ## check which package imports which
	@$(VENV)/bin/lint-imports --no-logo

dependencies: $(ready)  ## check that every import is declared and every dependency used
	@$(py) -m deptry --no-ansi .

prose: $(ready)  ## check the English of pages, docstrings and messages
	@$(py) tests/architecture/prose.py

# Warnings are errors: a link or an anchor that leads nowhere, a page that no index page names. Always from the beginning,
# because a second build would not repeat the warnings of unchanged pages.
docs: $(ready)  ## build the documentation's site: build/docs/index.html
	@rm -rf build/docs build/doctrees
	@$(py) -m sphinx -W --keep-going -n -q -j auto -d build/doctrees -b html docs build/docs

slow-tests: $(ready)  ## measure every test and rewrite tests/slow_tests.txt
	@$(pytest) -p tests.record_slow_tests $(ARGS) </dev/null

setup: $(ready)  ## build .venv only

# Hashes are required and nothing is built from source, so every machine installs the same files. The lock is complete, so
# pip need not resolve (--no-deps, because it can't match a pin with extras under hashes); `pip check` verifies that.
$(locked): requirements.lock
	@$(PYTHON) -c '$(new_enough)' || \
	  { echo "Mondrian needs Python 3.11 or newer, '$(PYTHON)' is older or missing: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 2; }
	@echo "==> $(VENV): a virtual environment with $$($(PYTHON) -V)"
	@$(PYTHON) -m venv --clear $(VENV) || \
	  { echo "python3 has no working 'venv' module; on Debian and Ubuntu: apt install python3-venv"; exit 2; }
	@echo "==> $(VENV): installing the lock (first time: some minutes, about 1 GB)"
	@set -o pipefail; $(pip) install --no-deps --require-hashes --only-binary :all: --progress-bar off \
	  -r requirements.lock </dev/null 2>&1 | tee $(VENV)/install.log | awk '$(progress)' || \
	  { tail -n 20 $(VENV)/install.log; echo "The packages couldn't be installed; the whole log: $(VENV)/install.log"; exit 3; }
	@$(pip) check >/dev/null || { $(pip) check; exit 3; }
	@touch $@

$(ready): $(locked) pyproject.toml
	@echo "==> $(VENV): mondrian itself"
	@$(pip) install -q --no-deps --no-build-isolation --no-index -e .
	@touch $@

# What a person gets who installs a release: ARGS="--python 3.13" tries another interpreter.
dist: $(ready) $(uv)  ## build wheel and sdist, and go the first hour's way with the installed wheel (some minutes)
	@$(py) -m tests.distribution --uv $(uv) $(ARGS)

# Nothing is downloaded but metadata, so the hashes are checked only when $(VENV) is built. macOS 14 is the oldest that mlx supports.
lock-check: $(uv)  ## resolve the lock for every supported Python, on Linux and macOS, from the package index
	@for python in 3.11 3.12 3.13 3.14; do for platform in x86_64-manylinux_2_35 aarch64-apple-darwin; do \
	  found=$$(MACOSX_DEPLOYMENT_TARGET=14.0 $(uv) pip install --dry-run --no-config --require-hashes --only-binary :all: \
	    --python-version $$python --python-platform $$platform --target .venv-lock/none -r requirements.lock 2>&1) || \
	    { echo "$$found"; echo "requirements.lock doesn't resolve for Python $$python on $$platform"; exit 1; }; \
	  echo "Python $$python, $$platform:$$(echo "$$found" | sed -n 's/^Would install//p')"; \
	done; done

$(uv):
	@$(PYTHON) -m venv .venv-lock && .venv-lock/bin/python -m pip install -q 'uv>=0.9'

# One lock for macOS arm64 and Linux x86-64. It names no index: pip uses the one that it is configured with.
lock: $(uv)  ## resolve pyproject.toml into requirements.lock again
	@$(uv) pip compile pyproject.toml --extra dev --output-file requirements.lock --quiet --upgrade \
	  --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate
	@echo "requirements.lock: $$(grep -c == requirements.lock) packages"

clean:  ## remove .venv, caches and build output; never a workspace or adapters
	@rm -rf $(VENV) .venv-lock .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
