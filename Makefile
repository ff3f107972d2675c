.DEFAULT_GOAL := help
.PHONY: help run setup setup-dev test check bench lock clean
SHELL := /bin/sh

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-8s %s\n", $$1, $$2}'

run: setup ## Build what is missing and run the platform (options: ARGS="--port 8000 --data-dir DIR")
	@exec .venv/bin/sinas up $(ARGS)

setup: ## Build .venv from the locked requirements
	@scripts/setup

setup-dev:
	@scripts/setup dev

test: setup-dev ## Run all tests (options: ARGS="tests/embedded -k keys")
	@scripts/test $(ARGS)

check: setup-dev ## Formatting, lint, types, architecture
	@scripts/check

bench: setup-dev ## Run the benchmarks and write benchmarks/results.md
	@.venv/bin/python -m benchmarks $(ARGS)

lock: ## Resolve the requirement locks anew (needs uv)
	@scripts/lock

clean: ## Remove .venv and caches; data stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info build dist
