# Two commands on a machine with Python, make and git:  make bench   make test
# VENV chooses the folder of the virtual environment, PYTHON the interpreter it is made with. PIP_ARGS goes to pip install:
# '--extra-index-url https://download.pytorch.org/whl/cpu' takes torch without CUDA, and saves gigabytes.
VENV ?= .venv
PYTHON ?= python3
PYTEST_ARGS ?=
TEST_WORKERS ?= auto
PIP_ARGS ?=
BENCH_ARGS ?= --memory
SMOKE_ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install bench bench-full test lint pages docs wheel arm64-smoke clean

help: ## show this list
	@grep -E '^[a-z0-9-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 24
	@echo "  VENV=$(VENV) PYTHON=$(PYTHON) PYTEST_ARGS='...' TEST_WORKERS=$(TEST_WORKERS) BENCH_ARGS='$(BENCH_ARGS)'"

install: $(INSTALLED) ## make the virtual environment and install this checkout into it

bench: $(INSTALLED) ## run the main job: memory and error of six methods on the same stream
	$(BIN)/ecotta-bench $(BENCH_ARGS)

bench-full: $(INSTALLED) ## the same with every method and more frames: a quarter of an hour
	$(BIN)/ecotta-bench --memory --methods all --frames 192

test: $(INSTALLED) ## run the tests, TEST_WORKERS processes at a time
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal $(PYTEST_ARGS)

lint: $(INSTALLED) ## check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pages: $(INSTALLED) ## rewrite what README.md and docs/ take from code, devices, examples and results
	$(BIN)/python docs/write_pages.py
	$(BIN)/python benchmarks/render_results.py

docs: $(INSTALLED) ## build the pages into build/docs/ and check the links between them
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	@echo build/docs/index.html

wheel: $(INSTALLED) ## build the wheel into dist/
	PYTHON=$(BIN)/python scripts/build-wheel dist --no-build-isolation

arm64-smoke: $(INSTALLED) ## run a bundle on an emulated arm64 board and compare; as root, see scripts/arm64-smoke --help
	scripts/arm64-smoke --python $(BIN)/python $(SMOKE_ARGS)

clean: ## remove the virtual environment and what tools left behind
	@test ! -e "$(VENV)" || test -f "$(VENV)/pyvenv.cfg" || { echo "make clean: $(VENV) is no virtual environment, left alone" >&2; exit 1; }
	rm -rf "$(VENV)" build dist ecotta_rt.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find ecotta_rt tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Editable, so that the commands find the networks and images under benchmarks/. pip and setuptools come first and the build is
# not isolated: the constraints then hold for the build too.
$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"ecotta_rt needs Python 3.11 or newer, $(PYTHON) is {sys.version.split()[0]}: try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip setuptools
	PYTHONWARNINGS="ignore:Editable installation" $(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation $(PIP_ARGS) --editable '.[all]'
	@touch $@
