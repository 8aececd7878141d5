# One vocabulary for people, hooks and CI. `make setup` first happens by itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
DEV := .venv/.dev-ready
# the wheels of PyTorch: those with CUDA, or TORCH=cpu; .venv remembers which it was made with
TORCH ?= $(shell cat $(READY) 2>/dev/null)
ifneq ($(filter-out cpu,$(TORCH)),)
$(error TORCH=$(TORCH) is not known. Give TORCH=cpu, or nothing for the wheels with CUDA)
endif
# several processes share the cores here: a thread that waits for the others of its loop must sleep, not spin
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup demo smoke test test-wheel test-servers test-compose check bench faults docs docs-serve lock clean

INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
# what the wheels for CPUs do not need; nvidia-ml-py, which ultralytics asks for, is Python alone and stays
WITHOUT_CUDA := grep -Ev '^(cuda-|nvidia-(cu|n)|triton==)' requirements.lock

SAME_TORCH := [ ! -f $(READY) ] || [ "$(TORCH)" = "$$(cat $(READY))" ] \
	|| { echo "error: .venv was made with other wheels of PyTorch. Run 'make clean' first."; exit 1; }

setup: $(READY)  ## .venv with the pinned versions and the package itself; TORCH=cpu: PyTorch without CUDA
	@$(SAME_TORCH)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
		|| { echo "error: $(PYTHON) is not Python 3.11 or 3.12. Install one and run 'make setup PYTHON=/path/to/python3.11'."; exit 1; }
	@$(SAME_TORCH)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.8"
	$(if $(TORCH),$(WITHOUT_CUDA) | $(INSTALL) --torch-backend $(TORCH) -r -,$(INSTALL) -r requirements.lock)
	$(INSTALL) --no-deps --editable .
	@echo "$(TORCH)" >$@

# what tests and documents need besides; the other commands do without
$(DEV): $(READY) requirements-dev.lock
	$(INSTALL) --no-deps -r requirements-dev.lock
	@touch $@

demo: $(READY)  ## the loop on sample data, offline; USE_CASE=person for the detector
	$(BIN)/openmlops demo

smoke: $(READY)  ## the commands of the loop on sample data, in smoke/; ON=zenml: on the ZenML server of ZENML_STORE_URL and ZENML_STORE_API_KEY
	rm -rf smoke
	PATH="$(CURDIR)/$(BIN):$$PATH" .ci/smoke smoke $(ON)

test: $(DEV)  ## everything but the slow tests, the servers of both stacks and what needs a Docker Engine
	$(BIN)/python -m pytest -m "not slow and not servers and not compose" -n 2 --dist loadfile

test-wheel: $(DEV)  ## what a user does: the wheel in an environment with nothing else, and the tutorial, typed
	$(if $(TORCH),UV_TORCH_BACKEND=$(TORCH) )$(BIN)/python -m pytest -m wheel tests/test_wheel.py tests/test_tutorial_page.py

test-servers: $(DEV) .venv-zenml/.ready  ## the pipelines on real PostgreSQL, MariaDB, S3, MLflow and ZenML servers of this machine, and these taken away
	$(BIN)/python -m pytest -m "servers and not slow" -n 2 --dist loadfile

.venv-zenml/.ready: $(READY) deploy/docker/zenml-server.lock
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-zenml
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-zenml/bin/python -r deploy/docker/zenml-server.lock
	@touch $@

test-compose: $(DEV)  ## the images and the compose file on a real Docker Engine; says so and passes where none answers; FIRST=1: without MySQL and backup
	$(BIN)/python -m pytest -m "compose$(if $(FIRST), and not slow)" -s tests/compose

check: $(DEV)  ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

faults: $(DEV) .venv-zenml/.ready  ## the slow tests: kills, races, simulations and whole commands at length
	$(BIN)/python -m pytest -m "slow and not compose" -n 2 --dist loadfile

bench: $(DEV)  ## the figures of docs/benchmarks.md; DATA=FOLDER (CIFAR-10's layout), COCO128=FOLDER, MODEL=FOLDER (a version's files) add theirs
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/pipeline_overhead.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/retention.py
	$(if $(DATA),$(BIN)/python benchmarks/train_cifar10.py $(DATA) --tutorial)
	$(if $(COCO128),$(BIN)/python benchmarks/train_person.py $(COCO128) && $(BIN)/python benchmarks/grid_jobs.py $(COCO128))
	$(if $(and $(DATA),$(MODEL)),$(BIN)/python benchmarks/drift_power.py $(MODEL) $(DATA))

docs: $(DEV)  ## the documentation site in site/, from what is here alone; a warning is an error. PLOTS=1 draws its plots anew first
	$(if $(PLOTS),$(BIN)/python docs/plots.py)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

docs-serve: $(DEV)  ## the same on 127.0.0.1:8001, built anew when a file changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8001

COMPILE := $(BIN)/uv pip compile --quiet --no-header --no-annotate --python-version 3.11 --upgrade
IMAGES := deploy/docker
lock: $(READY)  ## requirements.lock anew from pyproject.toml, and from it what development adds and the locks of the images
	$(COMPILE) --extra servers --extra yolo pyproject.toml -o requirements.lock
	$(COMPILE) -c requirements.lock --all-extras pyproject.toml -o .venv/all.lock
	grep -vxFf requirements.lock .venv/all.lock >requirements-dev.lock
	$(COMPILE) -c requirements.lock --override $(IMAGES)/train.overrides --extra servers --extra yolo \
		pyproject.toml $(IMAGES)/train.in -o $(IMAGES)/train.lock
	$(COMPILE) -c requirements.lock --override $(IMAGES)/serve.overrides $(IMAGES)/serve.in -o $(IMAGES)/serve.lock
	$(COMPILE) -c requirements.lock -c requirements-dev.lock $(IMAGES)/mlflow.in -o $(IMAGES)/mlflow.lock
	$(COMPILE) $(IMAGES)/zenml-server.in -o $(IMAGES)/zenml-server.lock
	$(COMPILE) $(IMAGES)/build.in -o $(IMAGES)/build.lock

clean:  ## the environment and the demo; never data, runs or models
	rm -rf .venv .venv-zenml .venv-wheel demo smoke site
