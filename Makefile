# Two commands do all set-up on a fresh machine with Python >= 3.11: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out/demo

# Photos beside the checkout are used where there are any; else `tiffin` looks further (see README).
ifndef TIFFIN_DATA
ifneq ($(wildcard ../shared/grocery-store),)
export TIFFIN_DATA := $(abspath ../shared/grocery-store)
endif
endif

.PHONY: demo test slow lint records clean

demo: $(VENV)/installed  ## checkpoint to a table of backends and precisions
	$(BIN)/tiffin demo --out $(OUT) $(ARGS)

test: $(VENV)/installed  ## the tests
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

slow: $(VENV)/installed  ## tests that take minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(VENV)/installed  ## style, types, floors, Python 3.10 on the device rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p $(VENV)/types && ln -sfn $(CURDIR) $(VENV)/types/tiffin
	MYPYPATH=$(VENV)/types $(BIN)/mypy -p tiffin
	$(BIN)/lint-imports --no-logo
	$(BIN)/vermin -q --no-tips --violations -t=3.10- --eval-annotations \
	  __init__.py errors.py machine.py artifact records runtime cli/device.py cli/options.py

records: $(VENV)/installed  ## regenerate every record that README and docs quote (an hour)
	$(BIN)/tiffin demo --full --out out/full
	cp out/full/record.json benchmarks/results/default.json
	cp out/full/record.npz benchmarks/results/default.npz
	$(BIN)/tiffin export --out out/fp32
	cp out/fp32/claims/parity.json benchmarks/results/parity.json
	$(BIN)/python benchmarks/studies/overhead.py out/full/artifacts/fp32 benchmarks/results/overhead.json
	$(BIN)/python benchmarks/studies/readme.py README.md benchmarks/results/default.json

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[build,dev]'
	@# NVIDIA's wheels exist for some platforms only; without them the TensorRT rows say so.
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[tensorrt-rtx]' \
	  || echo 'tensorrt-rtx has no wheel for this platform: its rows will say so'
	touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
