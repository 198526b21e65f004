# Two commands for a new machine: `make demo` and `make test`. Both make .venv when it is missing and install only
# when a requirements file has changed since the last time.

VENV   := .venv
BIN    := $(VENV)/bin
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)

.PHONY: help demo test lint format clean

help:
	@echo "make demo    three LoRAs in one picture, three ways; pictures go to outputs/demo"
	@echo "make test    the test suite, in an order of its SEED=N"
	@echo "make lint    ruff and pyright"
	@echo "make format  let ruff rewrite the sources"
	@echo "make clean   remove the virtual environment and caches (pictures stay)"

demo: $(VENV)/.installed
	$(BIN)/python app.py demo

# One process for each core, up to four: each holds a few models of its own. The order is shuffled, and another one
# for each SEED: no test may need another before it.
# Bytecode is kept, whatever your environment says of it: the tests start many processes, which would each compile all sources.
SEED ?= 1
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --randomly-seed=$(SEED)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis

$(VENV)/.installed: requirements.txt
	@python="$(PYTHON)"; found=$$("$${python:-python3}" --version 2>&1 | head -n 1); \
	if [ -z "$$python" ] || ! "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "Medley needs Python 3.11 or newer; found here: $$found." >&2; \
		echo "Install a newer one, or name it: make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3" >&2; exit 1; fi; \
	"$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: tests/requirements.txt requirements-judge.txt $(VENV)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r tests/requirements.txt
	@touch $@
