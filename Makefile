# Sentralbord. `make help` says what each target does.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
# Modules are compiled once, not at every start.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
CONFIG ?= config.yaml
# Debian packages that the tests need, each with the command that shows it is there. Of postfix, only
# its binaries are used: it is installed without a configuration and never started.
TEST_PACKAGES := chromium:/usr/bin/chromium openssl:/usr/bin/openssl postfix:/usr/sbin/smtp-source clamav-daemon:/usr/sbin/clamd rspamd:/usr/bin/rspamd prosody:/usr/bin/prosody

# Browsers and services of several tests share the cores, so one of thousands may miss its patience.
# What failed is tried once more, alone; what fails twice fails the run.
AGAIN := $(BIN)/pytest --last-failed --last-failed-no-failures none

# The three rooms, in the process of the tests: no service, no browser, no attackers.
ROOMS := $(addprefix --ignore=tests/,browser integration security)

# Telephones without a provider, for development.
PHONES := $(if $(PHONE),--phone)

.PHONY: help run test test-fast check bench demo lock assets format clean

help: ## Say what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

run: $(VENV)/.run assets ## Install, migrate and start the service on config.yaml; PHONE=1 opens the telephone
	@$(BIN)/sentralbord migrate --config $(CONFIG)
	@exec $(BIN)/sentralbord serve --config $(CONFIG) --one-time-login --log-level warning $(PHONES)

test: $(VENV)/.dev assets node_modules/.dev test-packages ## Install what the tests need and run every test
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile -m "not slow" || $(AGAIN)
	$(BIN)/pytest -m slow || $(AGAIN)

test-fast: $(VENV)/.dev assets node_modules/.dev ## The suite that runs on every save: under a minute
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --hypothesis-profile quick $(ROOMS) -m "not slow and not thorough"

check: $(VENV)/.dev assets ## Format, lint, types, import contracts, schema, rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/sentralbord config check --config $(CONFIG)
	$(BIN)/sentralbord rules check --config $(CONFIG)
	$(BIN)/sentralbord rules test --config $(CONFIG)

format: $(VENV)/.dev ## Format and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev assets test-packages ## Measure; whole numbers, ratios against a baseline of the same run
	$(BIN)/python -m tests.benchmarks

demo: $(VENV)/.run ## Send a realistic day through the doors of the running service; PHONE=1 with calls and texts
	@$(BIN)/sentralbord demo --config $(CONFIG) $(PHONES)

lock: $(VENV)/.dev ## Compile both lock files anew (hash-pinned, without addresses)
	$(BIN)/uv pip compile -q --universal --no-strip-extras --generate-hashes --no-header --no-emit-index-url --python-version 3.11 -c constraints.txt --group build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --no-strip-extras --generate-hashes --no-header --no-emit-index-url --python-version 3.11 -c constraints.txt --group build --group dev pyproject.toml -o requirements-dev.lock
	npm install --package-lock-only --ignore-scripts --no-audit --no-fund

clean: ## Remove what was built (not the data directory)
	rm -rf $(VENV) node_modules router/web/static/vendor dist

assets: router/web/static/vendor/manifest.json ## Copy the front-end files from npm

router/web/static/vendor/manifest.json: package.json package-lock.json router/web/assets.py
	@command -v npm >/dev/null || { echo "Node.js 20 or later with npm is needed: https://nodejs.org"; exit 1; }
	npm ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error
	$(PYTHON) router/web/assets.py

# What only tests compare with: Twilio's own OpenAPI and signatures, a counter of SMS parts, axe. Not needed to run.
node_modules/.dev: package.json package-lock.json | assets
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements-dev.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.run

.PHONY: test-packages
test-packages:
	@missing=""; for pair in $(TEST_PACKAGES); do [ -x "$${pair#*:}" ] || missing="$$missing $${pair%%:*}"; done; \
	[ -z "$$missing" ] && exit 0; \
	if [ "$$(id -u)" = 0 ]; then echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	else echo "The tests need these Debian packages: apt-get install$$missing"; exit 1; fi
