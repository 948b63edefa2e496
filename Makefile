# `make demo` and `make test` work on a fresh machine with Python 3.11+; everything they need is installed here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ROOMS := schemas event_log policy router_plugin learner demo

export LITELLM_LOCAL_MODEL_COST_MAP ?= True

.PHONY: demo test browser test-litellm bench lint docs generate clean

$(STAMP): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

demo: $(STAMP)
	$(BIN)/conduit demo

test: $(STAMP) browser
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest --doctest-modules
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --fail-under=90

# The plugin's tests with another LiteLLM: make test-litellm VERSION=1.108.14
test-litellm: $(STAMP)
	$(BIN)/python tests/litellm_version.py $(VERSION) $(TESTS)

# The web page's tests drive a real browser; where it cannot be installed they say what is missing.
browser:
	@command -v chromedriver >/dev/null || test -n "$$CONDUIT_TEST_CHROMEDRIVER" || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends \
	      chromium chromium-driver fonts-dejavu-core >/dev/null; \
	  else echo "no chromedriver: install Chromium and its driver for the tests of the web page" >&2; fi; }

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
