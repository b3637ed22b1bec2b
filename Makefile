# `make` alone explains itself. Needs Python 3.11 or newer, git and make; no Docker, no root.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON := .venv/bin/python
READY := .venv/.ready
# One more than the cores of the smallest machine: tests wait for servers and browsers as much as they compute.
WORKERS ?= 3

# uv must not fetch a Python of its own: the one that made .venv is the one we use.
export UV_PYTHON_DOWNLOADS := never
export PYTHONPATH := $(CURDIR)
# Where it is set, each of the processes that we start compiles everything anew: six seconds instead of one.
unexport PYTHONDONTWRITEBYTECODE

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

headline: $(READY) ## Storm the usual Stripe webhook and ours, count wrong plans; writes docs/headline.md
	@exec $(PYTHON) -m load.headline

chaos: $(READY) ## Kill web, worker and PostgreSQL while customers pay, then count; ROUNDS=10 by itself, SEED=n repeats one
	@BALLAST_STORM_ROUNDS=$(or $(ROUNDS),10) BALLAST_STORM_SEED=$(SEED) \
		exec $(PYTHON) -m pytest -s -p no:cacheprovider tests/features/billing/test_storm.py

gameday: $(READY) ## Make each fault that a runbook is for, and follow it until all is well; PAGES="ErasureLate" narrows
	@BALLAST_GAMEDAY="$(or $(PAGES),all)" exec $(PYTHON) -m pytest -p no:cacheprovider tests/ops/test_runbooks_live.py

browser: $(READY) ## Find or install the Chromium that tests use, and print where it is
	@sh infra/make/browser.sh

clean: ## Delete caches and the environment; keeps your data
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(READY): pyproject.toml uv.lock infra/make/bootstrap.sh
	@sh infra/make/bootstrap.sh
	@touch $@

##@ Deployment

image: ## Build the container image; needs Docker
	@docker build --tag ballast:local --build-arg REVISION=$$(git rev-parse HEAD) .

smoke: ## Start the whole compose deployment, ask it, throw it away; needs Docker
	@sh infra/compose/smoke.sh

alerts: ## Check the alert rules and simulate them; needs promtool or Docker
	@sh ops/alerts/check.sh

audit: $(READY) ## Look for known vulnerabilities in what uv.lock names; needs the network
	@.venv/bin/uv export --frozen --all-groups --no-emit-project --quiet --output-file .venv/audit.txt
	@.venv/bin/uvx --from pip-audit==2.10.1 pip-audit --strict --disable-pip --require-hashes \
		--progress-spinner off --requirement .venv/audit.txt

secrets: $(READY) ## Look for secrets in what git tracks
	@git ls-files -z | xargs -0 .venv/bin/uvx --from detect-secrets==1.5.0 detect-secrets-hook \
		--no-verify --baseline .github/secrets.baseline

.PHONY: help run reset test check format migration screenshots bench headline chaos gameday browser clean image smoke alerts audit secrets
