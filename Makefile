# Tierwise. `make demo` and `make test` need only Python 3.11+ and make; each builds .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ARGS ?=
# By file on up to four cores (ARGS="-n 0" runs them in one process); the tests that start the real processes share a core.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup
# Tests start hundreds of processes: let Python compile our modules once, and not in each of them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test test-fast test-real lint bench docs reference sbom audit lock clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.installed ## make .venv, which holds the `tierwise` command

$(VENV)/.installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Tierwise needs Python 3.11 or newer; '$(PYTHON)' is older. Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@echo "installing into $(VENV) (about half a minute the first time)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --require-hashes -r requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.demo: $(VENV)/.installed requirements-demo.lock
	$(PIP) install --quiet --no-deps --require-hashes -r requirements-demo.lock
	@touch $@

demo: $(VENV)/.demo ## start everything on this machine and watch photos being answered (ARGS="--for 60 --report report.json")
	$(BIN)/tierwise demo $(ARGS)

test: $(VENV)/.demo ## every test that needs neither Docker nor Java nor Debian packages
	$(PYTEST) $(ARGS)

test-fast: $(VENV)/.demo ## the unit tests alone, in under a minute on two cores
	$(PYTEST) -m "not slow and not e2e" $(ARGS)

test-real: $(VENV)/.demo ## the contract suites on Mosquitto and Apache Kafka (Java 11+, Maven, mosquitto)
	$(BIN)/python -m pytest -m real --real $(ARGS)

lint: $(VENV)/.installed ## ruff, mypy --strict, the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.demo ## every benchmark of docs/benchmarks.md, in one run
	$(PYTHON) -m venv $(VENV)-peers
	$(VENV)-peers/bin/python -m pip --disable-pip-version-check install --quiet 'quixstreams>=3'
	$(BIN)/tierwise bench all --quixstreams $(VENV)-peers/bin/python $(ARGS)

$(VENV)-docs/.installed: requirements-docs.lock
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements-docs.lock
	@touch $@

docs: $(VENV)-docs/.installed ## build the docs site in build/site; broken links and loads from other hosts fail
	$(VENV)-docs/bin/zensical build --clean --strict
	$(PYTHON) tools/site/check.py build/site

reference: $(VENV)/.installed ## write the generated parts of docs/ anew, from the code
	$(BIN)/python -m tools.reference

$(VENV)-audit: # apart from .venv: what these tools bring is none of our dependencies
	$(PYTHON) -m venv $@
	$@/bin/python -m pip --disable-pip-version-check install --quiet cyclonedx-bom==7.5.0 pip-audit==2.10.1

sbom: $(VENV)/.installed | $(VENV)-audit ## build/sbom.cdx.json: everything that `make setup` installs, with licences (CycloneDX)
	@mkdir -p build
	$(VENV)-audit/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o build/sbom.cdx.json $(BIN)/python

audit: | $(VENV)-audit ## ask whether a locked dependency has a known vulnerability
	$(VENV)-audit/bin/python .ci/audit.py $(VENV)-audit/bin/pip-audit requirements.lock

lock: ## resolve pyproject.toml into the lock files anew (needs uv)
	uv pip compile pyproject.toml --extra all --group dev --universal --generate-hashes --python-version 3.11 --no-header --no-emit-index-url -q --upgrade -o requirements.lock
	uv pip compile - --universal --generate-hashes --python-version 3.11 --no-deps --no-header --no-emit-index-url -q --upgrade -o requirements-demo.lock <<< "scikit-image"
	uv pip compile --group docs --universal --generate-hashes --python-version 3.11 --no-header --no-emit-index-url -q --upgrade -o requirements-docs.lock
	for image in cloud edge; do uv pip compile pyproject.toml --extra $$image --group image -c requirements.lock --universal --generate-hashes --python-version 3.11 --no-header --no-emit-index-url -q -o compose/requirements-$$image.lock; done

clean: ## remove what the targets above made
	rm -rf $(VENV) $(VENV)-peers $(VENV)-docs $(VENV)-audit build dist .mypy_cache .ruff_cache
