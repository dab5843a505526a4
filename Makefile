# One verb each, the same at the desk and in CI.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Each file names everything, so nothing is resolved: a newer release elsewhere changes nothing here.
PINNED := install --no-deps --require-hashes -r
THIS := install --no-deps --no-build-isolation --editable .

.PHONY: setup run fix check test test-all bench chaos fuzz pins

define need_python
@$(PYTHON) -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "reelweb needs Python 3.11 or newer with venv: make $@ PYTHON=/path/to/python3.11" >&2; exit 1; }
endef

setup: $(VENV)/.dev ## the environment with reelweb, editable, and the development tools

run: $(VENV)/.run ## everything it needs, the command reelweb too, then the server at http://127.0.0.1:8080
	$(BIN)/python -m app serve --with-parent

$(VENV)/.run: requirements.txt pyproject.toml
	$(need_python)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(PINNED) requirements.txt
	$(PIP) $(THIS)
	touch $@

$(VENV)/.dev: requirements-dev.txt pyproject.toml
	$(need_python)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(PINNED) requirements-dev.txt
	$(PIP) $(THIS)
	touch $@ $(VENV)/.run

fix: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadscope -m "not heavy"

test-all: setup
	HYPOTHESIS_PROFILE=heavy $(BIN)/python -m pytest -n 2 --dist loadscope

bench: setup
	for program in $(filter-out benchmarks/__init__.py benchmarks/serving.py benchmarks/nginx.py %_load.py,$(wildcard benchmarks/*.py)); do echo "== $$program"; $(BIN)/python $$program || exit 1; done

FUZZ_SECONDS ?= 600

fuzz: setup ## hostile bytes for the scanner and for the video's planners; finds go to fuzz/corpus
	$(BIN)/python fuzz/scan.py fuzz/corpus/scan -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -timeout=20 -artifact_prefix=fuzz/
	$(BIN)/python fuzz/video.py fuzz/corpus/video -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -timeout=20 -artifact_prefix=fuzz/

pins: setup ## compile both requirement files anew
	$(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml --group build -o requirements.txt
	$(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml --group dev -o requirements-dev.txt

chaos: setup ## SIGKILL at random under load, 1000 rounds; goes on where it was: make chaos ROUNDS=200 CHAOS=/var/tmp/chaos
	$(BIN)/python -m tests.chaos --rounds $(or $(ROUNDS),1000) --folder $(or $(CHAOS),/var/tmp/reelweb-chaos)
