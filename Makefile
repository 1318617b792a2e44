# The commands of the project. `make help` lists them.

PYTHON ?= python3
VENV   ?= .venv
CONSTRAINTS ?= constraints.txt
BIN    := $(VENV)/bin
PORT   ?= 3000
FUZZ_SECONDS ?= 300
# Hundreds of tests start our commands: compiled once, not each time anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install autobench ui test coverage test-newest fuzz check format bench-timing bench-quality bench-matcher bench-selection bench-selection-quick bench-bundle bench-device bench-scale bench-fleet bench-canary bench-serving bench-gpu test-vllm docs clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; v=sys.version_info[:2]; sys.exit(0 if (3,11)<=v<=(3,13) else "found Python %d.%d; expected 3.11 to 3.13; next: make PYTHON=python3.12 …" % v)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	@echo "Installing the package and what it needs (once, about two minutes) …"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing what the tests need (once) …"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev]'
	@touch $@

install: $(VENV)/.installed ## Make .venv and install the package.

autobench: $(VENV)/.installed ## Measure every registered model, decide, bundle and deploy the winner; goes on after Ctrl-C.
	@$(BIN)/milton demo
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/milton autobench
	@echo "            milton is in $(BIN): source $(BIN)/activate"

# `dagster dev` hands its own workspace to the servers it starts, which refuse it beside DAGSTER_MODULE_NAME. A shell
# starts what it puts into the background with SIGINT ignored, which would be inherited.
ui: $(VENV)/.installed ## Start the web UI and the daemon.
	@set -e; environment="$$($(BIN)/milton env)"; eval "$$environment"; \
	  unset DAGSTER_MODULE_NAME; \
	  echo "The UI is at http://127.0.0.1:$(PORT) once it says so below; Ctrl-C stops it."; \
	  PATH="$(abspath $(BIN)):$$PATH" PYTHONWARNINGS='ignore:Function `dev_command`' \
	    exec env --default-signal=INT dagster dev -h 127.0.0.1 -p $(PORT)

# Tests that serve real weights, or need the machine to themselves, come after the others and one at a time: a model
# server slows down twentyfold when something else wants its cores. What failed beside or after others is run once more by
# itself; what passes then is to be mended all the same.
AGAIN = { [ $$? = 1 ] && echo "What failed beside others is run once more by itself; what passes now is to be mended all the same:" && \
  $(BIN)/python -m pytest -vv --last-failed --last-failed-no-failures none -p no:randomly $(PYTEST_ARGS)

test: $(VENV)/.installed-dev ## Run the whole suite.
	$(BIN)/python -m pytest -n auto --dist loadgroup -m 'not (real_model or alone)' $(PYTEST_ARGS) || \
	  $(AGAIN) -m 'not (real_model or alone)'; }
	$(BIN)/python -m pytest -m 'real_model or alone' $(LAST_ARGS) $(PYTEST_ARGS) || \
	  $(AGAIN) -m 'real_model or alone' $(LAST_ARGS); }

coverage: ## Run the whole suite and say which lines it reached; takes half as long again.
	@rm -f .coverage .coverage.*
	$(MAKE) test PYTEST_ARGS='--cov --cov-append --cov-report= --cov-fail-under=0' LAST_ARGS='--cov-report=term'

test-newest: ## Run the whole suite with the newest releases that pyproject.toml allows, in an environment of its own.
	$(MAKE) VENV=.venv-newest CONSTRAINTS=constraints-newest.txt test

fuzz: $(VENV)/.installed-dev ## Try hostile input that no run has tried before, for FUZZ_SECONDS (300).
	$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS)

test-vllm: $(VENV)/.installed-dev ## Run the inference tier against real vLLM, in an environment of its own.
	$(BIN)/python tests/vllm/vllm_env.py
	$(BIN)/python -m pytest tests/vllm/real_vllm.py -s -p no:randomly

bench-timing: $(VENV)/.installed-dev ## How far from the truth: this tier, vllm bench serve and GuideLLM.
	$(BIN)/python benches/timing/bench_timing.py

bench-quality: $(VENV)/.installed-dev ## How busy the quality tiers keep a server.
	$(BIN)/python benches/quality/bench_quality.py

bench-matcher: $(VENV)/.installed-dev ## How far the reasoning tier's matcher agrees with people's labels.
	$(BIN)/python benches/quality/bench_matcher.py

bench-selection: $(VENV)/.installed-dev ## Deciding among ten thousand candidates; every table of docs/selection.md.
	$(BIN)/python -m benches.selection.bench_selection
	$(BIN)/python -m benches.selection.chains
	$(BIN)/python -m benches.selection.aa_trials
	$(BIN)/python -m benches.selection.contamination

bench-selection-quick: $(VENV)/.installed-dev ## The same in a minute: fewer candidates, chains and rows.
	$(BIN)/python -m benches.selection.bench_selection --candidates 2000 --policy seed
	$(BIN)/python -m benches.selection.chains --quick
	$(BIN)/python -m benches.selection.contamination --trials 200

bench-bundle: $(VENV)/.installed-dev ## Bundles of 4 GB beside tar, model-signing and cp; deltas beside zstd.
	$(BIN)/python benches/bundle/bench_bundle.py

bench-device: $(VENV)/.installed-dev ## A device: its agent, transfers with and without cuts, detection times, and what serving costs.
	$(BIN)/python benches/device/bench_device.py
	$(BIN)/python benches/device/bench_detection.py
	$(BIN)/python benches/device/bench_serving.py

bench-scale: $(VENV)/.installed-dev ## Registries of thousands of entries, journals of ten thousand deployments, and what a command takes to start.
	$(BIN)/python -m benches.scale.bench_registry
	$(BIN)/python benches/scale/bench_journal.py
	PYTHONPATH=. $(BIN)/python benches/scale/bench_start.py

bench-fleet: $(VENV)/.installed-dev ## Rollouts over ten thousand simulated devices: time, memory, devices until noticed, false stops; and bench-canary.
	PYTHONPATH=. $(BIN)/python benches/fleet/bench_fleet.py
	PYTHONPATH=. $(BIN)/python benches/fleet/bench_canary.py

bench-canary: $(VENV)/.installed-dev ## Requests that a canary needs until it notices, false aborts, false promotions.
	PYTHONPATH=. $(BIN)/python benches/fleet/bench_canary.py

bench-serving: $(VENV)/.installed-dev ## What serving through the gateway costs: swaps, time to first token, one slot's gap.
	$(BIN)/python benches/device/bench_serving.py

bench-gpu: $(VENV)/.installed-dev ## Everything that wants a GPU, in 8 minutes: GPU_CHECK="--server FILE|--build SDIST --models DIR", or --small without one.
	$(BIN)/python benches/gpu/check.py $(GPU_CHECK)

check: $(VENV)/.installed-dev ## Lint, format, type check, and who imports whom.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed ## Write the README's table of settings anew.
	$(BIN)/python docs/make_settings_table.py

format: $(VENV)/.installed-dev ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove what the tests and builds leave behind; keeps .venv and the state folder.
	rm -rf build dist *.egg-info .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
