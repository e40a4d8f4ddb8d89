PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo check lint test soak docs bench clean

demo: $(VENV)/.demo-installed
	$(BIN)/lfnet demo --output demo/

# What to run while working: lint, types, and the tests that neither render, nor train, nor run whole commands.
check: lint
	$(BIN)/python -m pytest -m "not slow" --durations=5

test: lint
	$(BIN)/python -m pytest --durations=15

# Spoiled inputs for every reader: COUNT of each, from SEED. A failure is printed with what makes it again. Then every
# file operation of a command fails once, in each way of a disk, and commands are killed at moments that SEED draws.
SEED ?= 0
COUNT ?= 4000
soak: $(VENV)/.dev-installed
	$(BIN)/python tests/faults/fuzz.py --seed $(SEED) --count $(COUNT)
	LFNET_SOAK=$(SEED) $(BIN)/python -m pytest tests/faults/test_operations.py tests/faults/test_kills.py tests/distributed

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

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
