# One vocabulary for people, hooks and CI. `make setup` first happens by itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test check bench faults lock clean

setup: $(READY)  ## .venv with the pinned versions and the package itself

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
		|| { echo "error: $(PYTHON) is not Python 3.11 or 3.12. Install one and run 'make setup PYTHON=/path/to/python3.11'."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: $(READY)  ## the loop on sample data, offline; USE_CASE=person for the detector
	$(BIN)/openmlops demo

test: $(READY)  ## everything but the slow faults
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

check: $(READY)  ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

faults: $(READY)  ## the slow tests: kills, races, simulations at full length
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile

bench: $(READY)  ## the figures of docs/benchmarks.md; DATA=FOLDER (CIFAR-10's layout), COCO128=FOLDER, MODEL=FOLDER (a version's files) add theirs
	$(BIN)/python benchmarks/pipeline_overhead.py
	$(BIN)/python benchmarks/serving.py
	$(if $(DATA),$(BIN)/python benchmarks/train_cifar10.py $(DATA) --tutorial)
	$(if $(COCO128),$(BIN)/python benchmarks/train_person.py $(COCO128) && $(BIN)/python benchmarks/grid_jobs.py $(COCO128))
	$(if $(and $(DATA),$(MODEL)),$(BIN)/python benchmarks/drift_power.py $(MODEL) $(DATA))

lock: $(READY)  ## requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --all-extras --no-header --no-annotate pyproject.toml -o requirements.lock --upgrade

clean:  ## the environment and the demo; never data, runs or models
	rm -rf .venv demo
