# The house's commands. Each needs only a Python 3.11 or newer on this machine: uv is fetched when it is missing, and uv installs
# exactly what uv.lock says into .venv. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

UV := $(or $(shell command -v uv 2>/dev/null),.uv/bin/uv)
export UV_PYTHON_DOWNLOADS := never
export UV_LINK_MODE ?= copy
export UV_NO_PROGRESS ?= 1
# Trust what the machine trusts: a company's own certificate authority, too.
export UV_SYSTEM_CERTS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

RUN := .venv/bin/
PYTHON := $(RUN)python
PACKAGES := contract privacy secagg trainer server client_sim protos tutti
CODE := $(wildcard $(PACKAGES)) tests conftest.py $(wildcard benchmarks docs deploy)
JOBS ?= 2
PYTEST ?=

.PHONY: help
help: ## what there is to do
	@grep -hE '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 14

# Environment -----------------------------------------------------------------------------------------------------------------

.uv/bin/uv:
	python3 -m pip install --quiet --target .uv uv || { python3 -m venv .uv && .uv/bin/pip install --quiet uv; }

$(filter /%,$(UV)): # an installed uv is what it is

# `--inexact` leaves extras (Ray, an accelerator) that somebody added by hand.
.venv/.synced: pyproject.toml uv.lock | $(UV)
	@$(UV) sync --quiet --frozen --inexact
	@touch $@

.PHONY: sync
sync: .venv/.synced ## installs what uv.lock says into .venv

# Using it --------------------------------------------------------------------------------------------------------------------

.PHONY: run
run: sync ## trains a small next-word model on simulated phones, with its privacy on the record
	$(RUN)tutti run deploy/tasks/next_word_small.yaml $(ARGS)

# Checking it -----------------------------------------------------------------------------------------------------------------

.PHONY: check
check: sync ## the static part: format, lint, types, imports, generated files (under a minute)
	$(RUN)ruff format --check $(CODE)
	$(RUN)ruff check $(CODE)
	$(RUN)lint-imports --no-logo
	$(PYTHON) -m contract.error_page --check
	$(PYTHON) -m protos.generate --check
	$(RUN)basedpyright

.PHONY: format
format: sync ## rewrites files as `check` wants them
	$(RUN)ruff format $(CODE)
	$(RUN)ruff check --fix $(CODE)

.PHONY: test
test: sync ## every test, the slow ones too
	$(RUN)pytest -n $(JOBS) --dist loadfile -q -m "not tff and not ray" $(PYTEST)

.PHONY: test-fast
test-fast: sync ## without the statistical and end-to-end tests
	$(RUN)pytest -n $(JOBS) --dist loadfile -q -m "not slow and not tff and not ray" $(PYTEST)

.PHONY: test-ray
test-ray: sync $(UV) ## the executor on Ray's actors; installs the extra
	$(UV) sync --quiet --frozen --inexact --extra ray
	@$(PYTHON) -m compileall -q .venv/lib/python*/site-packages/ray # Ray gives its processes 15 seconds to start: too few to compile in
	$(RUN)pytest -q tests/client_sim/test_ray_executor.py $(PYTEST)

.PHONY: test-tff
test-tff: sync $(UV) ## the TensorFlow Federated engine and the cross-checks against it, in an environment of its own
	TUTTI_TFF_ENV= $(PYTHON) -m tutti.engines.environment
	TUTTI_TFF_ENV= $(RUN)pytest tests/tff -m tff -q $(PYTEST)

# Measuring it ----------------------------------------------------------------------------------------------------------------

.PHONY: bench
bench: sync ## the short benchmarks, about ten minutes: one table, plots and benchmarks/results/latest.json
	$(PYTHON) benchmarks/bench.py $(ARGS)

.PHONY: bench-peers
bench-peers: sync ## the same rounds on pfl-research, Flower and TFF, in turns with ours; builds their environments first
	$(PYTHON) benchmarks/peers/compare.py $(ARGS)

# Generated files -------------------------------------------------------------------------------------------------------------

.PHONY: protos
protos: sync ## generates Python from protos/**/*.proto
	$(PYTHON) -m protos.generate

.PHONY: errors
errors: sync ## generates docs/errors.md from contract.errors
	$(PYTHON) -m contract.error_page
