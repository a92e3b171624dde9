# A newcomer needs Python >= 3.11 and make; everything else is fetched into .venv by hash.
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv
MAKEFLAGS += --no-print-directory

.PHONY: help setup demo run test check lock
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/ready ## Build .venv from the lock file (seconds when nothing changed)

# uv.lock holds names, versions and hashes but no host: exporting it to hashed requirements lets every
# machine fetch from the index (or mirror) that its own pip and uv are set up for.
.venv/ready: uv.lock pyproject.toml deploy/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nector-relay needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/uv.txt
	@$(UV) export --quiet --frozen --no-emit-project --format requirements.txt --output-file .venv/requirements.txt
	@$(UV) pip sync --quiet --require-hashes --python $(BIN)/python .venv/requirements.txt
	@$(UV) pip install --quiet --no-deps --python $(BIN)/python --editable .
	@touch $@

lock: setup ## Resolve the newest allowed versions into uv.lock
	@$(UV) lock --quiet --upgrade
	@sed -E -i 's#url = "https?://[^"]*/([^/"]+)"#path = "\1"#; s#registry = "https?://[^"]*"#registry = "index"#; s#, upload-time = "[^"]*"##' uv.lock
	@$(UV) export --quiet --frozen --no-header --no-annotate --only-group bootstrap --no-emit-project --output-file deploy/uv.txt
