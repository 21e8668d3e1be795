# Two commands do everything: `make lab` opens the course, `make test` proves it. Needs Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
HERE := $(dir $(abspath $(firstword $(MAKEFILE_LIST))))
START ?= notebooks/00_start_here.ipynb
NOTEBOOKS ?= $(wildcard notebooks/*.ipynb)
WORKERS ?= $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# Moved by hand, `make constraints TORCH=torch==X.Y.Z`: a newer torch may come as a CUDA build of several gigabytes.
TORCH ?= $(shell sed -n '/^torch==/p' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help lab exercises test release grade execute format lint constraints clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1@\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F@ '{printf "%-18s %s\n", $$1, $$2}'

lab: $(STAMP) ## open the course in JupyterLab (LAB_FLAGS=--no-browser, for one)
	env -u JUPYTER_PATH JUPYTER_CONFIG_PATH="$(HERE)tools/jupyter" $(BIN)/python -m jupyterlab $$([ "$$(id -u)" != 0 ] || echo --allow-root) \
	  --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/$(START) $(LAB_FLAGS)

exercises: $(STAMP) ## put your own copies, to fill in, into exercises/ and open them there
	$(BIN)/python -m minit2i exercises
	$(MAKE) lab START=exercises/00_start_here.ipynb

test: $(STAMP) ## run every test and every notebook, and compare what they print and draw
	$(BIN)/python -m pytest -q -n $(WORKERS) --maxprocesses 8 --dist loadscope --no-loadscope-reorder

release: $(STAMP) ## make the student versions (for instructors; FLAGS=--help for more)
	$(BIN)/python -m minit2i release $(FLAGS)

grade: $(STAMP) ## grade a folder of submissions (SUBMISSIONS=folder, FLAGS=--help for more)
	@[ -n "$(SUBMISSIONS)" ] || { echo "say which folder holds a folder per student: make grade SUBMISSIONS=folder"; exit 1; }
	$(BIN)/python -m minit2i grade "$(SUBMISSIONS)" $(FLAGS)

execute: $(STAMP) ## run notebooks and store their outputs (NOTEBOOKS=notebooks/01_forward.ipynb for one)
	$(BIN)/python tools/execute.py $(NOTEBOOKS)

format: $(STAMP) ## put code and notebooks into the one layout
	$(BIN)/python -m ruff check -q --fix-only .
	$(BIN)/python -m ruff format .

lint: $(STAMP) ## look for mistakes in code and notebooks
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

constraints: ## pin the newest versions inside the ranges of pyproject.toml (all but torch, see above)
	rm -rf build/pins
	$(PYTHON) -m venv build/pins
	build/pins/bin/python -m pip install -q -e ".[lab,grade,test]" "$(TORCH)"
	{ echo "# The versions the course is tested with, made by 'make constraints'. Ranges: pyproject.toml."; \
	  build/pins/bin/python -m pip freeze --exclude-editable --exclude pip --exclude setuptools \
	  | sed 's/+cpu$$//' | grep -Ev '^(nvidia-|triton)'; } > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/pins

clean: ## remove the environment and everything else that can be made again (not build/course, not exercises)
	rm -rf .venv minit2i.egg-info .pytest_cache .ruff_cache
	find build -mindepth 1 -maxdepth 1 ! -name course -exec rm -rf {} + 2>/dev/null || true
	find minit2i tests tools notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "'$(PYTHON)' was not found: install Python 3.11 or newer, or say where it is: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: the course needs 3.11 or newer. Say where one is: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[lab,grade,test]"
	@touch $@
