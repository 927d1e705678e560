# Everything runs from here without an activated environment.
#   make train         set up if needed, then train the tiny recipe, or go on with it (RECIPE=..., ARGS="--set seed=1")
#   make serve         set up if needed, then serve the tiny run's policy on this machine (CHECKPOINT=..., ARGS="--config ...")
#   make test          set up if needed, then lint, types and all tests    (PYTEST_ARGS="-m 'not stack'")
#   make test-cluster  the tests that kill a whole run's parts, and that submit a run to four raylets
#   make bench         set up if needed, then every benchmark, and docs/benchmarks.md from what they found
#   make tiny-policy   make the tiny recipe's starting policy again
#   make chaos         the tiny recipe on four raylets while actors and nodes are killed for 20 minutes (ARGS="--seed 2")
#   make audit         known vulnerabilities of the pinned packages
#   VENV=path          another place for the environment; several clones can share one
#   PYTHON=python3.12  the interpreter that makes the environment (3.11 to 3.13)

PYTHON ?= python3
VENV ?= .venv
RECIPE ?= recipes/tiny.yaml
ARGS ?=
# What `make train` has made, else the policy that it starts from (which stores little: RL makes it care).
CHECKPOINT ?= $(or $(lastword $(sort $(wildcard runs/tiny/checkpoints/step_*))),models/tiny-policy)
PYTEST_ARGS ?=
LOCK := requirements/cpu.txt
# Where the CPU build of torch comes from when the configured indexes offer only the CUDA build.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell sha256sum $(LOCK) | cut -c1-16)
TORCH := $(shell grep -m1 '^torch==' $(LOCK))
# This clone's code comes first, also in an environment that another clone made.
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))

.PHONY: setup train serve test test-cluster lint bench tiny-policy lock chaos audit

setup: $(STAMP)

$(STAMP): | $(LOCK)
	$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14), f"Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}: set PYTHON="'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip==26.3
	$(BIN)/python -m pip install --no-deps --progress-bar off --quiet -r $(LOCK)
	$(BIN)/python -c 'import torch' 2>/dev/null || \
		$(BIN)/python -m pip install --no-deps --force-reinstall --index-url $(TORCH_INDEX) $(TORCH)
	$(BIN)/python -m pip install --no-deps --no-build-isolation --quiet --editable .
	rm -f $(VENV)/.installed-*
	touch $@

train: setup
	$(BIN)/atommem train $(RECIPE) --resume $(ARGS)

serve: setup
	$(BIN)/atommem serve $(CHECKPOINT) $(ARGS)

test: lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-cluster: setup
	ATOMMEM_CLUSTER_TESTS=1 $(BIN)/python -m pytest tests/cluster/test_recovery.py tests/cluster/test_cluster.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

BENCHMARKS := memory embedding shared_prefixes learner loss_memory prefix_cache rollouts weight_sync iteration learning startup

bench: setup
	$(BIN)/python -m pip install --no-deps --quiet -r requirements/bench.txt
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit 1; done
	$(BIN)/python -m benchmarks.report

tiny-policy: setup
	rm -rf build/tiny
	$(BIN)/atommem model tiny --out build/tiny/init
	$(BIN)/atommem collect recipes/tiny-sft.yaml --episodes 6000 --out build/tiny/turns.parquet
	$(BIN)/atommem sft recipes/tiny-sft.yaml --out build/tiny/policy
	rm -rf models/tiny-policy
	mv build/tiny/policy models/tiny-policy

chaos: setup
	RAY_AUTH_MODE=disabled PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m benchmarks.chaos $(ARGS)

# pip-audit stays out of the environment: it is fetched for the occasion, and asks the public advisory database.
audit:
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet pip-audit==2.10.1
	build/audit/bin/pip-audit --no-deps --disable-pip --requirement $(LOCK)

# Pin what the environment has now (after changing a version in it and passing the tests).
lock:
	@{ sed '/^[^#]/,$$d' $(LOCK); $(BIN)/python -m pip freeze --all --exclude-editable \
		| grep -v -i -E '^(pip|atommem)(==| @)' | sed -E 's/^(torch==[0-9.]+)\+cpu/\1/' | sort -f; } > $(LOCK).new
	@mv $(LOCK).new $(LOCK)
