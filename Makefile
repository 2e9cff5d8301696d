# make app     install what is needed and open the app on the pocket model
# make test    install what is needed and run the tests
# make check   known faults of packages, formatting, lint, types and tests
# make bench   run the benchmarks
# make train   train a pocket model into runs/pocket/model; resumes after a kill
# make reproduce   the paper's three tables on the pocket model, into runs/reproduce; resumes after a kill
# make clean   remove the virtual environment and caches
#
# PYTHON=...    the interpreter to build .venv from (3.11 or newer; found by itself when not given)
# PIP_ARGS=...  more words for pip, for example --extra-index-url https://download.pytorch.org/whl/cpu
# ARGS=...      more words for the program, for example: make app ARGS="--port 8000"

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help app test check audit bench train reproduce clean install install-dev browser

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	$$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
ARGS ?=
# Two processes, a file of tests at a time: the tests compute in one thread each.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile
PIP_ARGS ?=

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Found no Python 3.11 or newer with its venv module:" \
	  "install one (Debian and Ubuntu: apt-get install python3.11 python3.11-venv) or say make PYTHON=/path/to/python3.11." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than" \
	  "Python 3.11: install 3.11 or newer, or say make PYTHON=/path/to/python3.11." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp is newer than its list of packages once that list is installed; a changed list installs again.
$(VENV)/.installed: requirements.txt pyproject.toml | $(BIN)/python
	$(PIP) install $(PIP_ARGS) -r requirements.txt
	$(PIP) install $(PIP_ARGS) --no-deps --editable .
	@touch $@

$(VENV)/.installed-train: requirements-train.txt $(VENV)/.installed
	$(PIP) install $(PIP_ARGS) -r requirements-train.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt requirements-train.txt $(VENV)/.installed
	$(PIP) install $(PIP_ARGS) -r requirements-dev.txt
	@touch $@

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

# The browser test wants a Chromium or Chrome. Where none can be installed the test skips and says why.
browser:
	@for name in chromium chromium-browser google-chrome google-chrome-stable chrome; do \
	  if command -v $$name >/dev/null; then exit 0; fi; done; \
	if ! command -v apt-get >/dev/null; then echo "There is no Chromium here: the browser test will skip."; exit 0; fi; \
	if [ "$$(id -u)" = 0 ]; then sudo=""; else sudo="sudo -n"; fi; \
	export DEBIAN_FRONTEND=noninteractive; \
	{ $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends chromium; } \
	  || echo "Chromium could not be installed: the browser test will skip."

app: install
	$(BIN)/python app.py --open $(ARGS)

test: install-dev browser
	$(PYTEST) $(ARGS)

check: install-dev browser audit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) $(ARGS)

# Known faults of the packages, by pip-audit, where its index answers.
audit: install-dev
	@if $(BIN)/python -c "import json, urllib.request as web; \
	  json.load(web.urlopen('https://pypi.org/pypi/pillow/10.0.0/json', timeout=10))['vulnerabilities']" 2>/dev/null; \
	then $(PIP) install --quiet pip-audit==2.10.1 && $(BIN)/python -m pip_audit --skip-editable --progress-spinner off; \
	else echo "pypi.org does not answer: the packages are not audited for known faults."; fi

bench: install
	@for file in benchmarks/bench_*.py; do \
	  test -e "$$file" || { echo "There is no benchmarks/bench_*.py yet." >&2; exit 1; }; \
	  echo "== $$file"; $(BIN)/python "$$file" $(ARGS); done

train: $(VENV)/.installed-train
	$(BIN)/python -m kontext_slider.train.pocket $(ARGS)

reproduce: $(VENV)/.installed-train
	$(BIN)/python benchmarks/reproduce.py $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
