# `make demo` and `make test` are all the set-up there is: both build .venv from the lock when it is missing or old.
# Variables: PYTHON (the interpreter to build with), VENV (where), ARGS (handed on to pytest, demo, up, bench),
# WORKERS (processes that share the tests; 0: none but pytest's own, for a debugger).

new_enough := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c '$(new_enough)' 2>/dev/null && echo $$p; done) python3)
VENV ?= .venv
ARGS ?=
WORKERS ?= 2
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

py := $(VENV)/bin/python
locked := $(VENV)/.locked
ready := $(VENV)/.ready
pip := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 $(py) -m pip
progress := /^(Collecting|Processing) / {if (++n % 40 == 0) {print "    " n " packages found"; fflush()}} \
  /^Installing collected/ {print "    unpacking " n; fflush()}
sources := mondrian_core tasks flows deployments mini_training bench tests
present = $(wildcard $(sources))

.PHONY: help setup demo up down bench test check lint format types contracts lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

demo: $(ready)  ## the whole loop on this machine, from nothing to a promoted, tried-out adapter
	@$(py) -m mondrian demo $(ARGS)

up: $(ready)  ## Prefect server, worker and the service, left running
	@$(py) -m mondrian up $(ARGS)

down: $(ready)  ## stop what `make up` started
	@$(py) -m mondrian down $(ARGS)

bench: $(ready)  ## measurements against what one would pick instead
	@$(py) -m bench $(ARGS)

test: $(ready)  ## every test; ARGS="-m unit" for the quick ones
	@$(py) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS) </dev/null

check: lint types contracts test  ## all that must hold before a commit

lint: $(ready)  ## style and format
	@$(py) -m ruff check $(present)
	@$(py) -m ruff format --check $(present)

format: $(ready)  ## put style and format right
	@$(py) -m ruff check --fix $(present)
	@$(py) -m ruff format $(present)

types: $(ready)  ## static types
	@$(py) -m mypy

contracts: $(ready)  ## who may import whom
	@$(VENV)/bin/lint-imports --no-logo

setup: $(ready)  ## only build .venv

# Hashes are required and nothing is built from source, so the same files arrive everywhere. The lock is complete, so
# pip resolves nothing (--no-deps; it can't match a pin with extras under hashes), and `pip check` proves it complete.
$(locked): requirements.lock
	@$(PYTHON) -c '$(new_enough)' || \
	  { echo "Mondrian needs Python 3.11 or newer, '$(PYTHON)' is none: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 2; }
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

# One lock for macOS arm64 and Linux x86-64; it names no index, the one pip is set up with is used.
lock:  ## resolve pyproject.toml anew into requirements.lock
	@test -x .venv-lock/bin/uv || { $(PYTHON) -m venv .venv-lock && .venv-lock/bin/python -m pip install -q 'uv>=0.9'; }
	@.venv-lock/bin/uv pip compile pyproject.toml --extra dev --output-file requirements.lock --quiet --upgrade \
	  --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate
	@echo "requirements.lock: $$(grep -c == requirements.lock) packages"

clean:  ## remove caches and .venv, never a workspace or adapters
	@rm -rf $(VENV) .venv-lock .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
