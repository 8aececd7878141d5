# One vocabulary for people, hooks and CI. `make setup` first happens by itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
# several processes share the cores here: a thread that waits for the others of its loop must sleep, not spin
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup demo smoke test test-servers test-compose check bench faults docs docs-serve lock clean

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

smoke: $(READY)  ## the commands of the loop on sample data, in smoke/; ON=zenml: on the ZenML server of ZENML_STORE_URL and ZENML_STORE_API_KEY
	rm -rf smoke
	PATH="$(CURDIR)/$(BIN):$$PATH" .ci/smoke smoke $(ON)

test: $(READY)  ## everything but the slow tests, the servers of both stacks and what needs a Docker Engine
	$(BIN)/python -m pytest -m "not slow and not servers and not compose" -n 2 --dist loadfile

test-servers: $(READY) .venv-zenml/.ready  ## the pipelines on real PostgreSQL, MariaDB, S3, MLflow and ZenML servers of this machine, and these taken away
	$(BIN)/python -m pytest -m "servers and not slow" -n 2 --dist loadfile

.venv-zenml/.ready: $(READY) deploy/docker/zenml-server.lock
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-zenml
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-zenml/bin/python -r deploy/docker/zenml-server.lock
	@touch $@

test-compose: $(READY)  ## the images and the compose file on a real Docker Engine; says so and passes where none answers; FIRST=1: without MySQL and backup
	$(BIN)/python -m pytest -m "compose$(if $(FIRST), and not slow)" -s tests/compose

check: $(READY)  ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

faults: $(READY) .venv-zenml/.ready  ## the slow tests: kills, races, simulations and whole commands at length
	$(BIN)/python -m pytest -m "slow and not compose" -n 2 --dist loadfile

bench: $(READY)  ## the figures of docs/benchmarks.md; DATA=FOLDER (CIFAR-10's layout), COCO128=FOLDER, MODEL=FOLDER (a version's files) add theirs
	$(BIN)/python benchmarks/pipeline_overhead.py
	$(BIN)/python benchmarks/serving.py
	$(if $(DATA),$(BIN)/python benchmarks/train_cifar10.py $(DATA) --tutorial)
	$(if $(COCO128),$(BIN)/python benchmarks/train_person.py $(COCO128) && $(BIN)/python benchmarks/grid_jobs.py $(COCO128))
	$(if $(and $(DATA),$(MODEL)),$(BIN)/python benchmarks/drift_power.py $(MODEL) $(DATA))

docs: $(READY)  ## the documentation site in site/, from what is here alone; a warning is an error. PLOTS=1 draws its plots anew first
	$(if $(PLOTS),$(BIN)/python docs/plots.py)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

docs-serve: $(READY)  ## the same on 127.0.0.1:8001, built anew when a file changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8001

COMPILE := $(BIN)/uv pip compile --quiet --no-header --no-annotate --python-version 3.11 --upgrade
IMAGES := deploy/docker
lock: $(READY)  ## requirements.lock anew from pyproject.toml, and from it the locks of the images
	$(COMPILE) --all-extras pyproject.toml -o requirements.lock
	$(COMPILE) -c requirements.lock --override $(IMAGES)/train.overrides --extra servers --extra yolo \
		pyproject.toml $(IMAGES)/train.in -o $(IMAGES)/train.lock
	$(COMPILE) -c requirements.lock --override $(IMAGES)/serve.overrides $(IMAGES)/serve.in -o $(IMAGES)/serve.lock
	$(COMPILE) -c requirements.lock $(IMAGES)/mlflow.in -o $(IMAGES)/mlflow.lock
	$(COMPILE) $(IMAGES)/zenml-server.in -o $(IMAGES)/zenml-server.lock
	$(COMPILE) $(IMAGES)/build.in -o $(IMAGES)/build.lock

clean:  ## the environment and the demo; never data, runs or models
	rm -rf .venv .venv-zenml demo smoke site
