# `make demo` needs Python 3.11 or later and make. `make test` also starts real servers, for which it installs Debian
# packages when it is root, and else says which are missing. Everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PARTS := $(PYTHON) tests/parts
LOCKED := uv.lock pyproject.toml drivers/libvirt/pyproject.toml
# uv from the path, else one inside .venv. --inexact: uv must not remove itself, nor what an earlier target put there.
UV := $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)
SYNC = UV_PROJECT_ENVIRONMENT=$(VENV) $(UV) sync --quiet --locked --inexact --no-python-downloads

# Tests on real parts run one after another: they share two cores with the servers, and some look at all of a host.
REAL := rabbitmq or rabbitmq3 or libvirt or postgresql

.DEFAULT_GOAL := help
.PHONY: help demo demo-real test check bench parts parts-stop clean

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.core ## Three simulated clusters under load, one worker lost, and a verdict on the order
	$(BIN)/federation demo

demo-real: $(VENV)/.all parts ## The same main job on RabbitMQ, libvirt and a real Linux guest
	eval "$$($(PARTS) all env)" && $(BIN)/federation demo-real

test: $(VENV)/.all parts ## Every test, on real parts
	$(BIN)/python -m pytest -n 2 -m "not ($(REAL))"
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "$(REAL)"

check: $(VENV)/.check ## Format, lint, types, import rules, docs
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir $(VENV)/.import_linter_cache
	$(BIN)/zensical build --strict --clean

bench: $(VENV)/.all parts ## Compare the bus with its peers, in one run on one broker
	eval "$$($(PARTS) all env)" && $(BIN)/python bench

parts: ## Start RabbitMQ, libvirt, the Linux guest and PostgreSQL; they stay for the next time
	$(PARTS) all start >/dev/null

parts-stop: ## Stop them
	$(PARTS) all stop

clean: ## Remove what make made here; downloads of the parts stay in their cache
	rm -rf $(VENV) site .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)

$(BIN)/uv: | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8,<1'

$(VENV)/.core: $(LOCKED) | $(VENV)/bin/python $(UV)
	$(SYNC) --no-default-groups
	touch $@

# libvirt's binding is compiled against libvirt's headers, which linting does not need.
$(VENV)/.check: $(LOCKED) | $(VENV)/bin/python $(UV)
	$(SYNC) --all-packages --all-extras --all-groups --no-install-package libvirt-python
	touch $@

$(VENV)/.all: $(LOCKED) | $(VENV)/bin/python $(UV)
	$(PARTS) all install
	$(SYNC) --all-packages --all-extras --all-groups
	touch $@ $(VENV)/.check $(VENV)/.core
