# Needs python3 (3.11 to 3.13) with pip and venv, and make; everything else is installed into $(VENV).
VENV ?= .venv
VENV_PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

# More arguments for `make train`, `test`, `bench` and `sample`, e.g. make train ARGS="seed=1 trainer.max_epochs=5"
ARGS ?=
SAMPLE ?= outputs/sample

.DEFAULT_GOAL := help
.PHONY: help setup train sample test bench lint format lock clean distclean

help:  ## Show this list
	@echo "Usage: make TARGET [ARGS=\"...\"] [VENV=$(VENV)]"
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(INSTALLED)  ## Install everything into VENV, once (about 3 GB to download, some minutes)
	@echo "$(VENV) is ready"

# The stamp is written last: an install that was interrupted is taken up again by the next make.
$(INSTALLED): requirements.lock pyproject.toml .ci/setup.sh
	@sh .ci/setup.sh "$(VENV)"
	@touch $@

train: $(INSTALLED)  ## Train and test the dual SSD300; config overrides in ARGS, e.g. ARGS="data.root=DIR seed=1"
	$(VENV_PYTHON) -m crossview.train model=ssd300 data=pasadena $(ARGS)

sample: $(INSTALLED)  ## Render a data set of 20 streets into SAMPLE (outputs/sample); settings in ARGS, e.g. ARGS="streets=26"
	$(VENV_PYTHON) -m crossview.data.streets out="$(SAMPLE)" $(ARGS)

# A process per core, up to 8, with one thread each: tests work on small tensors, for which more threads gain nothing.
test: export OMP_NUM_THREADS ?= 1
test: $(INSTALLED)  ## Run the tests on all cores; pytest arguments in ARGS, e.g. ARGS="-k camera -x", ARGS="-n 0 --pdb"
	$(VENV_PYTHON) -m pytest -n auto --maxprocesses 8 --dist worksteal $(ARGS)

bench: $(INSTALLED)  ## Measure ours and the peers in turn, about an hour; names of benchmarks in ARGS, e.g. ARGS="inference"
	$(VENV_PYTHON) -m benchmarks.run $(ARGS)

lint: $(INSTALLED)  ## Check style, formatting and types; changes nothing
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy

format: $(INSTALLED)  ## Format the code and fix what can be fixed automatically
	$(VENV_PYTHON) -m ruff format .
	$(VENV_PYTHON) -m ruff check --fix .

# uv, in a scratch environment, reads package metadata only: this downloads no torch. --universal: one resolution for
# Linux and macOS on all supported Pythons.
lock:  ## Resolve requirements.lock anew from pyproject.toml (newest versions that fit)
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	python3 -m venv "$$scratch" && "$$scratch/bin/python" -m pip install --quiet uv && \
	"$$scratch/bin/uv" pip compile pyproject.toml --extra dev --extra sweep --extra bench --output-file requirements.lock \
		--upgrade --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --quiet
	@git --no-pager diff --stat -- requirements.lock

clean:  ## Remove caches and build leftovers; keeps outputs/ and the environment
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks .coverage htmlcov
	find . -name __pycache__ -type d -not -path './.venv/*' -not -path './outputs/*' -prune -exec rm -rf {} +

distclean: clean  ## Remove the environment too; outputs/ is still kept
	@if [ -e "$(VENV)" ] && [ ! -e "$(VENV)/pyvenv.cfg" ]; then echo "$(VENV) is not a virtual environment" >&2; exit 1; fi
	rm -rf "$(VENV)"
