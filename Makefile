# Every target makes .venv and installs what it needs by itself; a second call installs nothing.
# SPDX-License-Identifier: Apache-2.0
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SMOKE := build/smoke

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help setup smoke test soak browser check bench docs dist

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1	\2/' | expand -t 14

setup: $(INSTALLED) ## make .venv with the package (editable) and the development tools

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("error: $(PYTHON) is Python %d.%d, accepted: 3.11 or newer; try make PYTHON=python3.12" % v[:2])'
	@echo "installing into $(VENV) (once; a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --quiet --editable '.[dev]'
	@touch $@

smoke: $(INSTALLED) ## real data to BLEU table: prepare, train a small MoE on 8 simulated devices, evaluate
	@if [ -n "$$(find $(SMOKE)/run -newer $(SMOKE)/finished -name 'metrics.jsonl' 2>/dev/null)" ]; then \
	  echo "error: $(SMOKE)/run was trained on after make smoke, which would delete it; move or remove $(SMOKE)" >&2; \
	  exit 2; fi
	@rm -rf $(SMOKE)
	$(BIN)/gshard-prepare-data --config configs/smoke.py --data_dir $(SMOKE)/data
	$(BIN)/gshard-train --config configs/smoke.py --data_dir $(SMOKE)/data --workdir $(SMOKE)/run
	$(BIN)/gshard-eval --workdir $(SMOKE)/run --split test
	@touch $(SMOKE)/finished

test: $(INSTALLED) ## run the whole test suite
	@# The longest first, so that the processes end together.
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder tests/train tests

soak: $(INSTALLED) ## the long form: kills, signals, corruptions, a million lines, all of Tatoeba
	$(BIN)/python -m pytest tests/faults tests/data/prepare tests/train/test_loop.py --soak

browser: $(INSTALLED) ## drive the service's page and the reports in headless Chromium
	@scripts/install_chromium.sh
	$(BIN)/python -m pytest tests/browser --browser

check: $(INSTALLED) ## lint (ruff), types (pyright), import floors
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python --threads
	$(BIN)/python -m pytest tests/test_floors.py

bench: $(INSTALLED) ## run the benchmarks; JSON rows on standard output
	@$(BIN)/gshard-prepare-data --config configs/smoke.py --data_dir $(SMOKE)/data >&2
	@$(BIN)/python -m benchmarks.moe_layer
	@$(BIN)/python -m benchmarks.train_step --config configs/smoke.py --data_dir $(SMOKE)/data
	@$(BIN)/python -m benchmarks.read_batches --config configs/smoke.py --data_dir $(SMOKE)/data
	@$(BIN)/python -m benchmarks.prepare --pairs 200000

dist: $(INSTALLED) ## build the sdist and the wheel into dist/
	@rm -f dist/gshard_mt-*
	$(BIN)/python -m hatchling build

docs: $(INSTALLED) ## write docs/configuration.md from gshard_mt/config/records.py
	$(BIN)/python scripts/write_configuration_doc.py
