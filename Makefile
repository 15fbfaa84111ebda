# The list of commands. Each makes .venv first where it is missing or out of date.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.NOTPARALLEL:
.PHONY: help demo test check cover bench
.DEFAULT_GOAL := help

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/run  ## draw videos between key frames with the shipped weights
	@mkdir -p demo
	$(BIN)/douga tween examples/arms-first.png examples/arms-last.png --samples 2 --seed 0 --out demo/arms.mp4
	$(BIN)/douga tween examples/wave-first.png examples/wave-last.png --model inbetween-weizmann --seed 0 --out demo/wave.mp4
	@echo
	@echo "Try next:"
	@echo "  $(BIN)/douga tween FIRST.png LAST.png --seed 1 --out mine.gif   your own pictures, another seed"
	@echo "  $(BIN)/douga tween FIRST.png LAST.png --method flow --out flow.mp4   the same drawn by a baseline"
	@echo "  $(BIN)/douga list   methods, data sources, recipes and weights"

test: .venv/dev  ## run the tests
	$(BIN)/python -m pytest

check: .venv/dev  ## lint, format, types, import layers, then the tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

cover: .venv/dev  ## the tests, and which lines they never reach
	$(BIN)/python -m pytest --cov --cov-report=term-missing

bench: .venv/run  ## measure the speed on this machine
	$(BIN)/python benchmarks/speed.py --data shapes

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "douga needs Python 3.11 or later; name one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/run: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	@touch $@

.venv/dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[dev]'
	@touch $@ .venv/run
