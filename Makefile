# Two commands for a new user: `make demo` and `make test`. Both make the environment first, every version pinned.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo

# uv ignores a pip cache or cap that this machine may have, and so always takes torch and torchvision of one build.
$(VENV)/.ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "neardup needs Python 3.11: install it, or say where it is with make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.9; }
	@echo "Installing what constraints.txt pins (about 6 GB on disk, a few minutes the first time)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --group dev --editable .
	@touch $@

.PHONY: install demo test lint types wheel clean
install: $(VENV)/.ready

demo: install
	$(BIN)/neardup demo --out $(OUT)

# The tests run on the wheel that a user would install, not on this folder.
test: install lint types wheel
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

wheel: install
	@rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist . >/dev/null
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --reinstall dist/*.whl

clean:
	rm -rf $(VENV) dist build demo
