PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test docs bench clean

demo: $(VENV)/.demo-installed
	$(BIN)/lfnet demo --output demo/

test: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

docs: $(VENV)/.docs-installed
	$(BIN)/mkdocs build --strict

bench: $(VENV)/.demo-installed
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/training_speed.py

clean:
	rm -rf $(VENV) build dist demo .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Each stamp is as old as the last installation: a changed pyproject.toml installs again, nothing else does.
$(VENV)/.demo-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[demo]'
	touch $@

$(VENV)/.docs-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	touch $@

$(VENV)/.dev-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[demo,train,docs,dev]'
	touch $@
