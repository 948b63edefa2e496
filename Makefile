# `make demo` and `make test` work on a fresh machine with Python 3.11+; everything they need is installed here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# What a test may need that makes it slow; tests/conftest.py says which test needs what.
SLOW := kafka or browser or process or campaign
PYTEST ?= $(BIN)/python -m pytest
COVERED := $(BIN)/python -m coverage run -m pytest

export LITELLM_LOCAL_MODEL_COST_MAP ?= True

.PHONY: demo test test-fast test-slow test-wheel test-lowest test-litellm coverage needs bench lint docs generate clean

$(STAMP): pyproject.toml requirements.lock
	$(PYTHON) tests/system_packages.py venv
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

demo: $(STAMP)
	$(BIN)/conduit demo

# Every test, and how much of the code they reach.
test: $(STAMP) needs
	$(BIN)/python -m coverage erase
	$(MAKE) test-fast PYTEST='$(COVERED)'
	$(MAKE) test-slow PYTEST='$(COVERED)'
	$(MAKE) coverage

# In two processes, a file at a time. Each process has a broker of its own.
PARALLEL := --numprocesses 2 --dist loadfile

test-fast: $(STAMP)
	$(PYTEST) --doctest-modules $(PARALLEL) -m "not ($(SLOW))"

test-slow: $(STAMP) needs
	$(PYTEST) --doctest-modules $(PARALLEL) -m "$(SLOW)"

coverage:
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --fail-under=90

# What pip installs today: the wheel, built here unless WHEEL names one, with the newest LiteLLM that resolves.
test-wheel: $(STAMP)
	$(BIN)/python tests/environments.py wheel $(WHEEL)

# The fast tests with the lowest versions that pyproject.toml allows.
test-lowest: $(STAMP)
	$(BIN)/python tests/environments.py lowest

# The plugin's tests with other LiteLLMs: the lowest allowed and the newest of 1.108, or VERSION=1.109.3.
test-litellm: $(STAMP)
	$(BIN)/python tests/environments.py litellm "$(VERSION)" $(TESTS)

# A browser, and Java for the broker: installed where that is possible; otherwise one line says what is missing.
needs:
	@$(PYTHON) tests/system_packages.py browser broker

bench: $(STAMP)
	$(BIN)/python -m benchmarks.selection --json

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy -p benchmarks
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/mkdocs build

generate: $(STAMP)
	$(BIN)/python -m conduit_schemas.documents
	$(BIN)/python -m conduit_litellm.settings_page

clean:
	rm -rf $(VENV) .coverage .coverage.* htmlcov
