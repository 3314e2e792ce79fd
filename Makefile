# `make bench` and `make test` do all their own set-up; a second call installs nothing.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
SUITE ?= quick
PLAY ?= human-v1
WEB := benchmarks/synthfm_bench/web
PAGE := benchmarks/synthfm_bench/play/page/index.html
VENV := .venv
WINDOWS := $(filter Windows_NT,$(OS))
BIN := $(VENV)/$(if $(WINDOWS),Scripts,bin)

# Constraints hold in the build environment too, by absolute path: without that, building sam2 pulls 5 GB of CUDA
# packages and replaces torch. As a file: address, a folder name may hold spaces.
, := ,
space := $(subst ,, )
CONSTRAINTS := file://$(if $(WINDOWS),/)$(subst $(space),%20,$(CURDIR))/constraints.txt
export PIP_CONSTRAINT := $(CONSTRAINTS)
export PIP_BUILD_CONSTRAINT := $(CONSTRAINTS)
export SAM2_BUILD_CUDA := 0

define pip_install
	"$(BIN)/python" -m pip install --disable-pip-version-check -e '.[$(1)]'
endef

.PHONY: help
help:  ## show this
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: bench
bench: $(VENV)/.installed  ## install what is missing, play the suite `quick`, print the board (SUITE=... for another)
	@"$(BIN)/synthfm" bench $(SUITE)

.PHONY: play
play: $(VENV)/.installed-play $(PAGE)  ## install what is missing, build the page, click yourself (PLAY=... for a suite or image)
	@"$(BIN)/synthfm" play $(PLAY)

.PHONY: page
page: $(PAGE)  ## build the page of `synthfm play`

.PHONY: test
test: $(VENV)/.installed-dev  ## install what is missing, then lint, types and the tests that take minutes
	"$(BIN)/ruff" check
	"$(BIN)/ruff" format --check
	"$(BIN)/codespell"
	"$(BIN)/mypy"
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n 3 -m "not slow"

.PHONY: test-all
test-all: $(VENV)/.installed-dev $(VENV)/.installed-ray  ## every test, the slow ones too
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n 3

.PHONY: coverage
coverage: $(VENV)/.installed-dev  ## the tests of `make test` again, with the share of lines that they run
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -n 3 -m "not slow" --cov --cov-report=term:skip-covered

.PHONY: docs
docs: $(VENV)/.installed-docs  ## build the documentation site into site/; a broken link is an error
	"$(BIN)/zensical" build --strict

.PHONY: format
format: $(VENV)/.installed-dev  ## fix what ruff can fix
	"$(BIN)/ruff" check --fix
	"$(BIN)/ruff" format

$(PAGE): $(wildcard $(WEB)/*.* $(WEB)/src/*)
	@node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' 2> /dev/null && npm --version > /dev/null || { \
	  echo "make: building the page needs Node 20.19 or newer and npm, which are missing or older." >&2; \
	  echo "  Install them (https://nodejs.org/en/download; macOS: brew install node), or install the wheel, which holds the page." >&2; \
	  exit 1; }
	cd $(WEB) && npm install --no-save --no-audit --no-fund && npm run build
	@touch $@

$(VENV)/pyvenv.cfg:
	@"$(PYTHON)" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
	  echo "make: '$(PYTHON)' is missing, lacks its venv module, or is older than Python 3.11." >&2; \
	  echo "  Install Python 3.11 (Debian, Ubuntu: apt install python3.11 python3.11-venv; macOS: brew install python@3.11;" >&2; \
	  echo "  others: https://www.python.org/downloads/), or name a later one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
	  exit 1; }
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(call pip_install,real$(,)plot$(,)report)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(call pip_install,real$(,)plot$(,)report$(,)dev)
	@touch $(VENV)/.installed $@

$(VENV)/.installed-ray: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(call pip_install,ray)
	@touch $@

$(VENV)/.installed-play: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(call pip_install,real$(,)report$(,)serve)
	@touch $@

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(call pip_install,docs)
	@touch $@
