# `make demo` and `make test` are all a newcomer needs: each sets itself up first, once, in .venv.

VENV ?= .venv
PYTHON ?=
PYTEST_ARGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
CLUSTER := $(VENV)/.cluster

.DEFAULT_GOAL := help
.PHONY: help setup demo test faults check bench docs clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with everything that constraints.txt pins (3 minutes, 6 GB, once)

demo: $(READY) ## the whole story on generated faces: search, ensemble, export, predict
	$(BIN)/affectune demo

test: $(READY) ## all tests, the quick ones first (PYTEST_ARGS="-m 'not slow'" leaves some out, "-n 0" takes one process)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

faults: $(CLUSTER) ## kill, fill, stop what a search needs, 40 minutes; into tests/faults/results.json and tests/faults/README.md
	$(BIN)/python tests/faults/run.py

check: $(READY) ## ruff, mypy --strict, and known vulnerabilities of what constraints.txt pins
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict spaces trainables search
	@$(BIN)/python .ci/audit $(VENV)/audit

bench: $(READY) ## measure against peers, three quarters of an hour; into benchmarks/results.json and benchmarks/README.md
	$(BIN)/python benchmarks/run.py

docs: $(READY) ## build the pages under docs/ into docs/_build, a warning being an error
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build
	@echo "docs/_build/index.html"

clean: ## remove .venv and the tools' caches; searches and models stay
	rm -rf $(VENV) docs/_build .mypy_cache .pytest_cache .ruff_cache affectune.egg-info

# The stamp holds the folder it was made for: an environment that came along with a copied checkout is made anew.
ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif

# What can't be installed is not tested, and the tests say so.
$(CLUSTER): $(READY)
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
		--no-build-isolation --editable '.[dev,cluster,faults]' && touch $@ || \
		echo "affectune: the extras cluster and faults are not installed; tests that need them are skipped" >&2

$(READY): setup.cfg pyproject.toml constraints.txt .ci/setup
	@.ci/setup $(VENV) $(PYTHON)
