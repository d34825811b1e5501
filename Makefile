.PHONY: test test-python test-oldest lint bench demo conformance models-conformance soak venv defaults

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH ?= torch>=2.11,<2.16
PACKAGES := "$(TORCH)" numpy maturin pytest ruff mypy expecttest \
	transformers timm torchvision

## Rust and Python tests; sets up $(VENV) on the first run
test: venv
	cargo test --workspace
	$(BIN)/python -m pytest -q tests

## The Python tests alone
test-python: venv
	$(BIN)/python -m pytest -q tests

## The Python tests on the oldest supported PyTorch
test-oldest:
	$(MAKE) test-python VENV=.venv-oldest TORCH="torch==2.11.*"

## Formatting and lints, warnings denied
lint: venv
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	$(BIN)/ruff format --check python_shim tests benches
	$(BIN)/ruff check python_shim tests benches
	$(BIN)/mypy

## Kernels, the cost of a call, and models side by side with eager and Inductor
bench: venv
	cargo bench -p ipex-jit --bench kernels
	$(BIN)/python benches/overhead.py
	$(BIN)/python benches/kernels/side_by_side.py
	$(BIN)/python benches/models/side_by_side.py

## BERT-base, GPT-2 and ResNet-50 beside eager and Inductor; table and picture in build/demo
demo: venv
	$(BIN)/pip install -q matplotlib
	$(BIN)/python benches/models/side_by_side.py --models bert,gpt2,resnet50 --save build/demo

## Every operator of PyTorch's OpInfo database, and about a hundred small models, against eager
conformance: venv models-conformance
	PYTHONPATH=tests $(BIN)/python -m conformance --save build/conformance/ipex.json

## The models alone: inference, a training step, three batch sizes with one compile
models-conformance: venv
	PYTHONPATH=tests $(BIN)/python -m conformance --mode inference training batches --timeout 900

## Memory over 100,000 calls and 1,000 compiles; the loss curve of 300 steps
soak: venv
	PYTHONPATH=tests $(BIN)/python tests/soak.py

## The table of default arguments that saved programs leave out, after a new rule in backend/src/ops/table.rs
defaults: venv
	mkdir -p build
	cargo run -q -p ipex-backend --bin ipexc -- operators > build/operators
	$(BIN)/python backend/src/protocol/defaults.py build/operators backend/src/protocol/defaults.json

## The Python environment with the package built into it
venv: $(BIN)/.packages
	VIRTUAL_ENV=$(abspath $(VENV)) PATH="$(abspath $(BIN)):$$PATH" $(BIN)/maturin develop --release

$(BIN)/.packages: Makefile
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "installing PyTorch and model libraries into $(VENV); this takes a few minutes"
	$(BIN)/pip install $(PACKAGES)
	touch $@
