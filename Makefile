.PHONY: gpu-tools gpu-env gpu-kernels gpu-verify gpu-selftest test test-python test-oldest lint bench demo conformance models-conformance soak venv defaults

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH ?= torch>=2.11,<2.16
GPU := hpg
GPU_PACKAGES := libze1 libze-dev intel-opencl-icd libigc-tools clang-15 llvm-15 llvm-spirv-15 spirv-tools g++
PACKAGES := "$(TORCH)" numpy maturin pytest ruff mypy expecttest \
	transformers timm torchvision

## Rust and Python tests; sets up $(VENV) on the first run. Ends with what was not run, for want of a tool
test: export IPEX_NOT_RUN = $(abspath build)/not-run
test: venv
	@mkdir -p build; : > $(IPEX_NOT_RUN)
	cargo test --workspace
	$(BIN)/python -m pytest -q tests
	@if [ -s $(IPEX_NOT_RUN) ]; then sort -u $(IPEX_NOT_RUN); echo "$$(sort -u $(IPEX_NOT_RUN) | wc -l) groups of tests NOT RUN"; fi

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
	$(BIN)/uv pip install -q --python $(BIN)/python matplotlib
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

## The Python environment with the package built into it; uv unpacks while it downloads, so that PyTorch's 5 GB aren't needed twice
venv: $(BIN)/.packages
	VIRTUAL_ENV=$(abspath $(VENV)) PATH="$(abspath $(BIN)):$$PATH" $(BIN)/maturin develop --release

$(BIN)/.packages: Makefile
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "installing PyTorch and model libraries into $(VENV); this takes a few minutes"
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip install -q --python $(BIN)/python $(PACKAGES)
	touch $@

## What the tests of the GPU code need: Intel's loader, compilers, OpenCL runtime for CPUs and SYCL library (Intel's licence; never shipped)
gpu-tools:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		timeout 300 sh -c 'apt-get -q update && apt-get -q install -y --no-install-recommends $(GPU_PACKAGES)' >/dev/null; \
	else echo "install as root: apt-get install $(GPU_PACKAGES)"; fi
	$(PYTHON) -m venv build/gpu-tools
	timeout 300 build/gpu-tools/bin/pip install -q intel-opencl-rt intel-cmplr-lib-rt
	timeout 300 build/gpu-tools/bin/pip install -q dpctl || echo "without Intel's SYCL library: its test will say NOT RUN"
	rm -f build/gpu-tools/lib/libsycl-jit.* build/gpu-tools/lib/libsycl-preview.*  # 0.5 GB that nothing here loads

## Exports that let any program here run on the tests' driver: eval "$$(make -s gpu-env)"; GPU=hpg, lpg, hpc, xe2 or plain
gpu-env:
	@cargo run -q -p ze_cpu --bin gpu-env -- $(GPU)

## Builds the GPU kernels again; fails if a committed one differs
gpu-kernels:
	runtime/kernels/build.sh build/kernels
	@for f in build/kernels/*.spv; do cmp $$f runtime/kernels/$$(basename $$f) || exit 1; done; echo "all kernels are as committed"

## Compiles the GPU kernels for real devices: DPAS, spills, calls, size; fails below what each declares
gpu-verify:
	$(PYTHON) runtime/kernels/census.py runtime/kernels

## For the owner of a GPU: whether products are right there and how fast; the report is build/gpu-selftest.txt
gpu-selftest:
	@mkdir -p build
	cargo run -q --release -p ipex-runtime --example gpu_selftest > build/gpu-selftest.txt; cat build/gpu-selftest.txt
