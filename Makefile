# One command is enough: `make demo` or `make test` on a machine with Python 3.11, make and a C compiler.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done
SETUP_LOG := $(VENV)/setup.log
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-input --progress-bar off
CODE := maskmill api client deploy shared worker training tests benchmarks docs
LOCK_COMMAND := $(BIN)/uv pip compile pyproject.toml --extra build --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-emit-index-url --custom-compile-command "make lock" --quiet

# A step of the set-up, $(1) in words and $(2) as commands: one line here, the rest in the log; if it fails, its end here.
define step
echo "$(1)"; { $(2); } >> $(SETUP_LOG) 2>&1 || { grep -v "^Requirement already\|^Ignoring\|is ignored:" $(SETUP_LOG) | \
	tail -n 12; echo "That failed; the whole log is $(SETUP_LOG)"; exit 1; } >&2
endef

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP) ## Make .venv with every locked dependency (again only when the lock changed)

$(STAMP): locks/dev.txt pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { echo "Maskmill needs Python 3.11 or newer: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	@mkdir -p $(VENV) && : > $(SETUP_LOG)
	@$(call step,Making $(VENV),test -x $(BIN)/python && $(BIN)/python -m pip --version || $(PYTHON) -m venv $(VENV))
	@$(call step,Installing the locked dependencies (about 2 min; log: $(SETUP_LOG)),$(PIP_INSTALL) --require-hashes -r locks/dev.txt)
	@$(call step,Installing maskmill itself,$(PIP_INSTALL) --no-deps --no-build-isolation -e .)
	@touch $(STAMP)

.PHONY: demo
demo: setup ## Segment a few sample pictures end to end on this machine
	$(BIN)/maskmill demo

.PHONY: up
up: setup ## Run everything on this machine until Ctrl-C
	$(BIN)/maskmill up

.PHONY: test
test: lint ## Lint, types, import rules, then every test but the long kill tests
	$(BIN)/python -m pytest

.PHONY: lint
lint: setup ## Ruff, mypy and the import rules
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

.PHONY: fmt
fmt: setup ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

.PHONY: docs
docs: setup ## Write the tables in docs/ that come from the code
	$(BIN)/python -m docs.generate

.PHONY: bench
bench: setup ## Run every benchmark that docs/figures.md quotes
	$(BIN)/python -m benchmarks

.PHONY: chaos
chaos: setup ## The long form of the kill tests
	$(BIN)/python -m pytest tests/acceptance -m chaos --timeout 7200

.PHONY: lock
lock: setup ## Resolve the dependencies again and write locks/ with hashes
	$(LOCK_COMMAND) --upgrade --extra api --extra worker --extra cpu --extra heic --extra local --extra dev -o locks/dev.txt
	$(LOCK_COMMAND) -c locks/dev.txt --extra api -o locks/api.txt
	$(LOCK_COMMAND) -c locks/dev.txt --extra worker --extra cpu -o locks/worker.txt
	$(LOCK_COMMAND) -c locks/dev.txt --extra worker --extra gpu -o locks/worker-gpu.txt
