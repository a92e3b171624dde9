# A newcomer needs Python >= 3.11 and make; everything else is fetched into .venv by hash.
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv
MAKEFLAGS += --no-print-directory
# Where a machine forbids it each process compiles all that it loads again: each worker of the tests eight seconds of it.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo run test test-long check bench lock image-check language-server audit sbom
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
	@$(UV) export --quiet --frozen --all-extras --no-emit-project --format requirements.txt --output-file .venv/requirements.txt
	@$(UV) pip sync --quiet --require-hashes --python $(BIN)/python .venv/requirements.txt
	@$(UV) pip install --quiet --no-deps --python $(BIN)/python --editable .
	@touch $@

demo: setup ## Send one example event for every route through the sandbox and show each message
	@$(BIN)/nector-relay demo

# The secrets of .env.example are refused where others can reach the relay: BIND=0.0.0.0 once .env has your own.
BIND ?= 127.0.0.1

run: setup ## Run the relay on this machine with the settings of .env (copied from .env.example if there is none)
	@test -f .env || cp .env.example .env
	@$(BIN)/nector-relay serve --host $(BIND)

# deptry leaves out the tests by itself; the second run reads them, too, where packages of the dev group are at home.
check: setup ## Style, types, import arrows, dependencies, Dockerfile, the bundled YAML
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/deptry --no-ansi .
	@$(BIN)/deptry --no-ansi --exclude '\.venv|node_modules' --ignore DEP002,DEP004 .
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/nector-relay check config/relay.yaml

# The lock file holds versions and hashes but no host, as uv.lock does. No npm, or no registry: its tests are skipped.
language-server: tests/editor/node_modules/.ready

tests/editor/node_modules/.ready: tests/editor/package-lock.json
	@(command -v npm >/dev/null && cd tests/editor && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error \
		--fetch-retries=2 --fetch-retry-mintimeout=1000 --fetch-retry-maxtimeout=5000 >/dev/null \
		&& touch node_modules/.ready) \
		|| (echo "without npm and its registry the tests in an editor are left out"; test -z "$$CI")

# Every branch of these is gone through by their own tests; no other test is slowed down by the tracer.
COUNTED := $(addprefix tests/,model values sources mapping message delivery authoring providers)

# The others wait (for a gap of six seconds, for a process to start and to end) as long as they work: four at once.
test: check language-server ## Everything that CI runs
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n 2 --dist worksteal -m "not long" $(COUNTED)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report
	@$(BIN)/pytest -n 4 --dist worksteal -m "not long" $(COUNTED:%=--ignore=%)
	@$(BIN)/nector-relay demo
	@test -z "$$CI" || $(MAKE) audit

# In an environment of its own, by hash as all else; what it looks at is what the image holds.
.venv/audit/ready: .venv/ready
	@$(UV) export --quiet --frozen --only-group audit --no-emit-project --format requirements.txt --output-file .venv/audit.txt
	@$(UV) export --quiet --frozen --no-dev --all-extras --no-emit-project --format requirements.txt --output-file .venv/image.txt
	@$(UV) venv --quiet --clear --python $(BIN)/python .venv/audit
	@$(UV) pip sync --quiet --require-hashes --python .venv/audit/bin/python .venv/audit.txt
	@touch $@

audit: .venv/audit/ready ## Known vulnerabilities of what the image holds; says so where the database cannot be reached
	@$(BIN)/python -m tests.audit .venv/audit/bin/pip-audit .venv/image.txt

sbom: setup ## Write sbom.cdx.json (CycloneDX): every package of the image with its version
	@$(UV) export --quiet --frozen --no-dev --all-extras --no-emit-project --format cyclonedx1.5 --output-file sbom.cdx.json >/dev/null

test-long: setup ## The tests that take minutes: image build, many kills
	@$(BIN)/pytest -m long

bench: setup ## Measure against a plain FastAPI relay, Node-RED and more; BESIDE="--rounds 2" for fewer rounds
	@$(BIN)/python -m bench.run
	@$(BIN)/python -m bench.beside $(BESIDE)

image-check: setup ## Build the image without a Docker daemon and try it
	@deploy/verify-image.sh

lock: setup ## Resolve the newest allowed versions into uv.lock
	@$(UV) lock --quiet --upgrade
	@sed -E -i 's#url = "https?://[^"]*/([^/"]+)"#path = "\1"#; s#registry = "https?://[^"]*"#registry = "index"#; s#, upload-time = "[^"]*"##' uv.lock
	@$(UV) export --quiet --frozen --no-header --no-annotate --only-group bootstrap --no-emit-project --output-file deploy/uv.txt
