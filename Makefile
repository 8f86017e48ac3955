# The commands of the README. `make help` lists them.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help setup demo test check generate

help:
	@echo "make setup     make .venv and install everything (no-op where nothing changed)"
	@echo "make demo      set up, then run the main job on the emulated board"
	@echo "make test      set up, then run every test"
	@echo "make check     set up, then format, lint, types and import rules"
	@echo "make generate  write the C header and the tables that follow from the contract"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed, this is ' + sys.version)"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[flow,pynq,dev]"
	touch $(STAMP)

demo: setup
	$(BIN)/rram demo

# A worker a processor, and one thread of linear algebra in each: they would get in each other's way.
test: setup
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --dist loadfile

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

generate: setup
	$(BIN)/python -m firmware_bridge.contract
