# kernelgate. `make serve` and `make test` each do everything that is needed on a bare machine; `make help` lists the rest.

# Languages, and `sandbox`, that `make test` must find working: what is missing skips its tests otherwise. `make test REQUIRE=python,sandbox`
REQUIRE ?=
# Passed on: `make serve ARGS="--port 9000"`, `make test ARGS="tests/unit -x"`
ARGS ?=
# The interpreter that the environment is made with. By default the system's own where it is 3.11 or newer, since distributions optimise theirs by profiles, which halves the time of everything against one
# that was built without; else the first one found.
PYTHON ?=

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Sessions start five times slower without .pyc files, and foreign modules have no place here.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME VIRTUAL_ENV PYTHONSTARTUP
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_ROOT_USER_ACTION = ignore

VENV := .venv
PY := $(VENV)/bin/python
STAMPS := $(VENV)/.stamps
STEP := $(PY) -c 'import sys; from kernelgate.setup.step import main; sys.exit(main())' --log $(VENV)/var/log/kernelgate-setup.log
SOURCES := $(shell find kernelgate -name '*.py')
SPECS := $(shell find kernelspecs -type f -not -path '*/node_modules/*' 2>/dev/null)

##@ The two commands

.PHONY: serve
serve: setup ## Set up what is missing, then run the service on 127.0.0.1
	@exec $(VENV)/bin/kernelgate serve $(ARGS)

.PHONY: test
test: setup build/services/.ready ## Set up what is missing, then run every test
	@exec $(PY) -m pytest $(if $(REQUIRE),--require=$(REQUIRE)) $(ARGS)

.PHONY: test-browser
test-browser: setup build/browser/.ready ## JupyterLab itself in Chromium (which it installs) against a gateway that is killed; screenshots in build/screenshots
	@exec $(PY) -m pytest tests/jupyter/test_browser.py $(ARGS)

build/browser/.ready: tests/jupyter/browser/browser.lock
	@command -v chromium >/dev/null || $(STEP) "Chromium" -- apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends chromium fonts-dejavu-core
	@$(STEP) "JupyterLab and Playwright" -- bash -c '$(PY) -m venv --clear build/browser && build/browser/bin/python -m pip install --require-hashes --no-deps -r $<'
	@touch $@

# JupyterLab's own client library, with which the suite drives the Jupyter door. Where there is no npm its tests are skipped.
build/services/.ready: tests/jupyter/services/package.json tests/jupyter/services/package-lock.json
	@mkdir -p $(@D) && cp $^ $(@D)/
	@if command -v npm >/dev/null; then $(STEP) "@jupyterlab/services" -- npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel=error; \
		else echo "Going on without @jupyterlab/services: there is no npm"; fi
	@touch $@

##@ Set-up

.PHONY: setup
setup: $(STAMPS)/bytecode $(STAMPS)/languages ## Environment, packages and languages, where they are not there yet
	@:

.PHONY: kernelspecs
kernelspecs: $(STAMPS)/bytecode ## Try again to make every language ready
	@$(PY) -m kernelgate.setup

$(STAMPS)/venv:
	@if ! $(PY) -m pip --version >/dev/null 2>&1; then $(MAKE) environment; fi
	@mkdir -p $(STAMPS) && touch $@

.PHONY: environment
environment:
	@usable() { command -v "$$1" >/dev/null && "$$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }; \
	choose() { for python in $(PYTHON) $(if $(PYTHON),,/usr/bin/python3 python3 python3.13 python3.12 python3.11); do \
		if usable "$$python"; then echo "$$python"; return; fi; done; return 1; }; \
	if ! python=$$(choose); then \
		if [ -n "$(PYTHON)" ]; then echo "$(PYTHON) is not a Python of 3.11 or newer with venv" >&2; exit 1; fi; \
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
			echo "kernelgate needs Python 3.11 or newer with venv; on Debian, as root: apt-get install python3 python3-venv" >&2; exit 1; fi; \
		echo "Installing Debian's Python"; log=$$(mktemp); export DEBIAN_FRONTEND=noninteractive; \
		{ apt-get -q update; apt-get -q install -y --no-install-recommends python3 python3-venv; } >"$$log" 2>&1 \
			|| { tail -n 25 "$$log" >&2; echo "apt-get failed; all of its output is in $$log" >&2; exit 1; }; \
		rm -f "$$log"; python=$$(choose); \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version), $$(command -v "$$python")"; \
	"$$python" -m venv --clear $(VENV)

$(STAMPS)/packages: requirements.lock | $(STAMPS)/venv
	@$(STEP) "Python packages" -- $(PY) -m pip install --require-hashes --no-deps -r requirements.lock
	@touch $@

$(STAMPS)/kernelgate: pyproject.toml $(STAMPS)/packages
	@$(STEP) "kernelgate itself" -- $(PY) -m pip install --no-deps --no-build-isolation --editable .
	@touch $@

# The whole environment, the standard library too: what the zygote of a session imports lazily must not have to be compiled by each session.
$(STAMPS)/library: $(STAMPS)/packages
	@$(STEP) "Byte code of Python's own library" -- $(PY) -c 'import compileall, sysconfig; compileall.compile_dir(sysconfig.get_path("stdlib"), quiet=2, workers=0, maxlevels=20)'
	@touch $@

$(STAMPS)/bytecode: $(SOURCES) | $(STAMPS)/kernelgate $(STAMPS)/library
	@$(PY) -m compileall -q kernelgate
	@touch $@

# A language that cannot be had does not stop the others, nor the service: it is said, and `make kernelspecs` tries again.
$(STAMPS)/languages: $(SPECS) | $(STAMPS)/kernelgate
	@echo "Languages"
	@$(PY) -m kernelgate.setup || echo "Going on without; \`make kernelspecs\` tries again."
	@touch $@

##@ Checks

.PHONY: check
check: format-check lint types imports spelling ## Everything that reads the code without running it

.PHONY: format-check lint types imports spelling
format-check: setup
	@$(VENV)/bin/ruff format --check --quiet .
lint: setup
	@$(VENV)/bin/ruff check --quiet .
types: setup
	@$(VENV)/bin/mypy --no-error-summary
imports: setup
	@$(VENV)/bin/lint-imports
spelling: setup
	@$(VENV)/bin/codespell kernelgate docs README.md CHANGELOG.md

.PHONY: sdk-types
sdk-types: setup ## What pyright says of the SDK: that every public name has a known type (installs it by npm)
	@[ -x build/pyright/node_modules/.bin/pyright ] || npm install --silent --no-fund --no-audit --prefix build/pyright pyright
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" build/pyright/node_modules/.bin/pyright kernelgate/sdk
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" build/pyright/node_modules/.bin/pyright --verifytypes kernelgate.sdk --ignoreexternal

.PHONY: fmt
fmt: setup ## Format the code, and mend what can be mended by itself
	@$(VENV)/bin/ruff check --fix --quiet . || true
	@$(VENV)/bin/ruff format --quiet .

.PHONY: sdk-sync
sdk-sync: setup ## Derive the SDK's synchronous half from the asynchronous one
	@$(PY) tests/tools/unasync.py

.PHONY: bench
bench: setup build/peers/.ready ## Measure beside what a user would pick instead, and write benchmarks/latest.json
	@$(PY) -m benchmarks --peers build/peers/bin/python --json benchmarks/latest.json $(ARGS)

build/peers/.ready: benchmarks/peers.lock
	@$(PY) -m venv --clear build/peers
	@$(STEP) "Peers of the benchmarks" -- build/peers/bin/python -m pip install --require-hashes --no-deps -r benchmarks/peers.lock
	@touch $@

##@ Faults

.PHONY: chaos
chaos: setup ## Break everything at random while sessions work, and count what is lost; as root. `make chaos ARGS="--seed 7 --kills 20"`
	@$(PY) -m tests.faults.chaos $(ARGS)

.PHONY: soak
soak: setup ## Half an hour of churn: whether memory, descriptors and disk stay flat. `make soak ARGS="--minutes 5"`
	@$(PY) -m tests.faults.soak $(ARGS)

##@ Upkeep

.PHONY: lock
lock: setup ## Resolve requirements.lock again, for every supported Python
	@[ -x build/lock/bin/uv ] || { $(PY) -m venv build/lock && build/lock/bin/pip install --quiet uv; }
	@build/lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --no-emit-package kernelgate --quiet $(ARGS) --output-file requirements.lock
	@build/lock/bin/uv pip compile benchmarks/peers.in --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --quiet $(ARGS) --output-file benchmarks/peers.lock
	@build/lock/bin/uv pip compile tests/jupyter/browser/browser.in --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --quiet $(ARGS) --output-file tests/jupyter/browser/browser.lock
	@if grep -nE '://|^--' requirements.lock benchmarks/peers.lock tests/jupyter/browser/browser.lock; then echo "a lock file names a host or an option" >&2; exit 1; fi

.PHONY: clean
clean: ## Remove what was made here, .venv and its kernels included
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
