# The commands of a checkout; `make help` lists them. Written for GNU make 3.81 and a POSIX shell.

VENV := .venv
BIN := $(VENV)/bin
# Made when all pins are in, and holding this folder's path: a half-made or moved environment has none that fits.
PINNED := $(VENV)/.pinned
READY := $(VENV)/.ready
PYTHON ?=
PYTHONS := python3.13 python3.12 python3.11 python3.14 python3
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq

ifneq ($(shell $(BIN)/python -c '' 2>/dev/null && cat $(PINNED) 2>/dev/null),$(CURDIR))
.PHONY: $(PINNED)
endif

.PHONY: help demo test check bench-stream bench-write bench-limits bench-candidates bench-flows chaos lock clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## a shop, a night and its recommendations, on this machine alone
	@exec $(BIN)/recstream demo

# A file stays with one worker, in the order of names: the long ones come first, and what they share is made once.
test: $(READY) ## the whole test suite, on an embedded Postgres
	@exec $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

check: $(READY) ## lint, format, types and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

bench-stream: $(READY) ## measure the streaming core beside instructor and others, 3 to 6 minutes
	@exec $(BIN)/python -m bench.stream

bench-write: $(READY) ## measure the writer and the readers with a million customers, 6 to 10 minutes, 20 GB of disk
	@exec $(BIN)/python -m bench.write

bench-limits: $(READY) ## runs under a provider's limits, beside the bare client, and budgets and plans, 6 to 10 minutes
	@exec $(BIN)/python -m bench.limits

bench-candidates: $(READY) ## what candidates find, beside implicit, and what building them takes, 20 to 30 minutes
	@exec $(BIN)/python -m bench.candidates

bench-flows: $(READY) ## what flows cost and outlive: Prefect, killed workers, cancelling, the whole line, about 15 minutes
	@exec $(BIN)/python -m bench.flows

chaos: $(READY) ## kill, crash and cut nights, then check every row, 5 to 10 minutes; SEED=N draws the same again
	@exec $(BIN)/python -m bench.chaos $(if $(SEED),--seed $(SEED))

lock: $(READY) ## pin requirements.txt anew, from pyproject.toml, and of it what the container's image holds
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --quiet --output-file requirements.txt
	$(BIN)/uv pip compile pyproject.toml --group image --extra eval --extra scale --constraint requirements.txt \
		--universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command "make lock" --quiet --output-file deploy/requirements.txt

clean: ## remove the environment and what tools left; .recstream/ and its database stay
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PINNED): requirements.txt
	@python=; for candidate in $(if $(PYTHON),'$(PYTHON)',$(PYTHONS)); do \
		if "$$candidate" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then \
			python=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "recstream needs Python 3.11 to 3.14 with its venv module (Debian, Ubuntu: apt install python3-venv);" \
			"tried $(or $(PYTHON),$(PYTHONS)): name another with make PYTHON=/path/to/python3" >&2; \
		exit 2; \
	fi; \
	echo "creating $(VENV) with $$("$$python" --version): about a minute"; \
	rm -rf $(VENV) && "$$python" -m venv $(VENV)
	@echo "installing what requirements.txt pins"
	@# The pins are the whole set: resolving them again can only go wrong, and does with pip 23.2.
	@$(PIP) install --no-deps --require-hashes -r requirements.txt
	@pwd -P > $(PINNED)

$(READY): $(PINNED) pyproject.toml
	@echo "installing recstream itself"
	@$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@touch $(READY)
