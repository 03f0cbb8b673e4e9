# dseg: `make demo` shows what it does, `make test` checks it. Both set up everything they need in .venv first.
# PYTHON chooses the interpreter (3.10 to 3.13).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= $(shell nproc)
DEMO ?= demo

.DEFAULT_GOAL := help
.PHONY: help setup system demo test test-slow test-gpu lint format config clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(READY) ## system libraries, .venv, package, ROS wheels, compiled loops

$(READY): setup.py
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "make: $(PYTHON) is not Python 3.10 to 3.13; name another: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(MAKE) --no-print-directory system
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "make: $(PYTHON) lacks venv; install your distribution's package for it, e.g. apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "Installing dseg and its libraries into $(VENV): about 8 GB (timm needs torchvision, which needs CUDA's torch), 3 to 10 minutes."
	$(BIN)/python -m pip install --editable '.[all,ros,test]'
	$(BIN)/python -m dseg_core.loops_compiled
	@touch $@

# Shared libraries that open3d's and OpenCV's wheels expect of the system.
system:
	@missing=''; \
	for pair in libusb-1.0.so.0:libusb-1.0-0 libGL.so.1:libgl1 libEGL.so.1:libegl1 libgomp.so.1:libgomp1; do \
	  /sbin/ldconfig -p | grep -qF "$${pair%%:*}" || missing="$$missing $${pair##*:}"; \
	done; \
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	if [ -n "$$missing" ]; then \
	  echo "Installing system libraries:$$missing"; \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends $$missing; \
	fi

demo: $(READY) ## the whole way on a simulated drive: report.html, overlay video, model, scores
	$(BIN)/dseg demo --out $(DEMO)

test: $(READY) lint ## all tests but the slow and the GPU ones
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m 'not slow and not gpu'

test-slow: $(READY) ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

test-gpu: $(READY) ## the tests that need an NVIDIA GPU
	$(BIN)/python -m pytest -m gpu

lint: $(READY) ## ruff and strict mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## format the code
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

config: $(READY) ## regenerate config/*.yaml from the options classes
	for stage in $$($(BIN)/dseg --help | sed -n 's/^    \([a-z][a-z-]*\)\( .*\)*$$/\1/p'); do \
	  $(BIN)/dseg $$stage --print-config > config/$$stage.yaml; done
	$(BIN)/python -m dseg_ros.parameters

clean: ## remove .venv and what demo made
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
