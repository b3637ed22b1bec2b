# `make` alone explains itself. Needs Python 3.11 or newer, git and make; no Docker, no root.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON := .venv/bin/python
READY := .venv/.ready
WORKERS ?= 2

# uv must not fetch a Python of its own: the one that made .venv is the one we use.
export UV_PYTHON_DOWNLOADS := never
export PYTHONPATH := $(CURDIR)

##@ Every day

help: ## Print this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo

run: $(READY) ## Start everything with demo data; prints addresses and logins; Ctrl-C stops it
	@exec $(PYTHON) -m infra.sandbox.run

reset: $(READY) ## Wipe the data of `make run`
	@exec $(PYTHON) -m infra.sandbox.reset

test: $(READY) ## Run every test, browser included; PYTEST="-k name" narrows
	@chromium=$$(sh infra/make/browser.sh) && \
		BALLAST_CHROMIUM="$$chromium" exec $(PYTHON) -m pytest -n $(WORKERS) --dist worksteal $(PYTEST)

check: $(READY) ## Lint, format, types, import contracts, migrations, settings, workflows; under a minute
	@exec $(PYTHON) infra/make/check.py

format: $(READY) ## Mend what can be mended by itself: formatting and simple lint
	@.venv/bin/ruff check --fix --quiet .; .venv/bin/ruff format .

##@ Now and then

migration: $(READY) ## Write a migration from the models: make migration NAME="pre add colour"
	@exec $(PYTHON) infra/make/migration.py "$(NAME)"

screenshots: $(READY) ## Take the pictures in docs/ from a running product of its own
	@chromium=$$(sh infra/make/browser.sh) && \
		BALLAST_CHROMIUM="$$chromium" exec $(PYTHON) infra/make/screenshots.py

bench: $(READY) ## Measure speed beside a bare floor and print the table of docs/performance.md
	@exec $(PYTHON) -m load.bench

browser: $(READY) ## Find or install the Chromium that tests use, and print where it is
	@sh infra/make/browser.sh

clean: ## Delete caches and the environment; keeps your data
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(READY): pyproject.toml uv.lock infra/make/bootstrap.sh
	@sh infra/make/bootstrap.sh
	@touch $@

.PHONY: help run reset test check format migration screenshots bench browser clean
