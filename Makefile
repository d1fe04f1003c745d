# `make demo` needs Python 3.11 or later and make. `make test` also starts real servers, for which it installs Debian
# packages when it is root, and else says which are missing. Everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PARTS := $(PYTHON) tests/parts
LOCKED := uv.lock pyproject.toml drivers/hyperv/pyproject.toml drivers/libvirt/pyproject.toml
# uv from the path, else one inside .venv. --inexact: uv must not remove itself, nor what an earlier target put there.
UV := $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)
SYNC = UV_PROJECT_ENVIRONMENT=$(VENV) $(UV) sync --quiet --locked --inexact --no-python-downloads

# Tests on real parts run file by file: they share two cores with the servers, and some look at all of a host.
REAL := rabbitmq or rabbitmq3 or libvirt or postgresql or vcenter

# What the kit asks first of every operation; `make conformance` asks the rest, too.
KIT_IN_TEST := does_what_it_says
DRIVERS := libvirt vmware hyperv

.DEFAULT_GOAL := help
.PHONY: help demo demo-real test test-containers conformance fuzz check bench parts parts-stop clean

help: ## Say what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.core ## Three simulated clusters under load, one worker lost, and a verdict on the order
	$(BIN)/federation demo

demo-real: $(VENV)/.all parts ## The same main job on RabbitMQ, libvirt and a real Linux guest
	eval "$$($(PARTS) all env)" && $(BIN)/federation demo-real

test: $(VENV)/.all parts ## Every test, on real parts
	$(BIN)/python -m pytest -n 2 -m "not ($(REAL)) and not fuzz and not kit"
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "($(REAL)) and not kit"
	$(BIN)/python -m pytest -n 4 --dist loadgroup -m kit -k "$(KIT_IN_TEST)"

test-containers: ## Build the images, bring up docker-compose.yml's demo, use it, scale it, kill every process of it: ten minutes and more
	$(PYTHON) tests/containers

conformance: $(VENV)/.all parts ## Every case of the conformance kit on every driver; reports in build/conformance/
	@status=0; for driver in $(DRIVERS); do \
	  $(BIN)/python -m pytest -n 4 --dist loadgroup -m kit drivers/$$driver/tests/test_conformance.py \
	    --conformance-report=build/conformance/$$driver || status=1; done; exit $$status

fuzz: $(VENV)/.all ## Thousands of requests made up from the REST API's own description: some minutes
	$(BIN)/python -m pytest -m fuzz

check: $(VENV)/.check ## Format, lint, types, import rules, compatibility of the contract, docs
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir $(VENV)/.import_linter_cache
	$(BIN)/federation contract check
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
