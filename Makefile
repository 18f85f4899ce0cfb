# Every command makes what it needs: nothing but make and Python 3.11 or newer has to be there.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check bench format clean

VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary --no-compile

help:
	@echo "make demo    a guarded model server, honest users and a swarm, recorded and replayed (under 3 minutes)"
	@echo "make test    formatting, lint, types, import contracts and every test"
	@echo "make bench   microseconds a request, beside what you would use instead"
	@echo "make format  format the code"

demo: $(VENV)/.demo
	@$(BIN)/python -m examples.demo

test check: $(VENV)/.dev
	@sh tests/browser.sh
	@sh tests/java.sh
	@sh tests/redis.sh
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

bench: $(VENV)/.dev
	@$(BIN)/python -m tests.bench

format: $(VENV)/.dev
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist demo-output .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# The stamps: an environment is filled again only when what it is filled from has changed.
$(VENV)/.demo: $(BIN)/python pyproject.toml
	@echo "installing gateway_guard and what the demo needs into $(VENV) ..."
	@$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml
	@echo "installing gateway_guard and what the tests need into $(VENV) ..."
	@$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(BIN)/python:
	@sh tests/environment.sh $(VENV)
