# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# A folder of the installed state, newer than what it was installed from.
BASE := $(VENV)/.base-installed
TEST := $(VENV)/.test-installed

.PHONY: demo test check check-systems format samples clean

## demo: install, then ask the bundled model about a sample video
demo: $(BASE)
	$(BIN)/smolvideo ask samples/triangle_down.mp4 "What is in this video?"

# A worker for each core and one more, as some wait for the processes they start; four at most, as
# each holds networks in memory. Threads of several workers would wait for each other. Files come in
# the order of tests/conftest.py, the long ones first, and not by how many tests they hold.
WORKERS = $(shell $(BIN)/python -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')

## test: install what the tests need, then run them
# Bytecode is written even where the environment forbids it: each worker would rewrite the asserts of
# all tests, and each of the hundreds of processes that tests start compile the package anew.
test: $(TEST)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

## check: style, types and layers
check: $(TEST)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

## check-systems: the types as they are on Windows and macOS
check-systems: $(TEST)
	$(BIN)/mypy --platform win32 --no-warn-unreachable
	$(BIN)/mypy --platform darwin --no-warn-unreachable

## format: put the code into the project's style
format: $(TEST)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

## samples: draw the sample videos and their questions again
samples: $(BASE)
	$(BIN)/smolvideo train samples samples

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(BASE): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(TEST): $(BASE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
