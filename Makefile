# Verbs. Each sets up what it needs in .venv; nothing outside this folder is touched.

PYTHON ?= python3
BIN := .venv/bin
# Where real data sets lie, for the tests that want them: make test DATA=/path
DATA ?=
# The compiler's cache does not know our decompositions, so each state of the kernels has its own.
export TORCHINDUCTOR_CACHE_DIR := $(CURDIR)/.inductor/$(shell cat src/spikformer/kernels/*.py src/spikformer/kernels/*/*.py | cksum | cut -d' ' -f1)

# What runs under sanitizers: tests of the kernels alone, without networks.
SANITIZED := tests/engine/test_library.py tests/engine/test_kernels.py tests/engine/test_files.py

.PHONY: setup demo test test-slow check sanitize bench clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt CMakeLists.txt $(wildcard csrc/*.h csrc/*.cpp)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/spikformer train digits --run runs/demo --overwrite
	$(BIN)/spikformer evaluate runs/demo --figure runs/demo/predictions.png
	$(BIN)/spikformer report runs/demo

test: setup
	$(BIN)/python -m pytest -m 'not compiled and not slow' --jaxtyping-packages=spikformer,typecheck.check --data='$(DATA)'
	$(BIN)/python -m pytest -m 'compiled and not slow' --data='$(DATA)'

test-slow: setup
	$(BIN)/python -m pytest -m slow --data='$(DATA)'

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

sanitize: setup
	$(BIN)/cmake -S . -B build/sanitize -DSPIKFORMER_SANITIZE=ON -DCMAKE_CXX_COMPILER='$(CXX)'
	$(BIN)/cmake --build build/sanitize --target driver --parallel
	build/sanitize/driver
	SPIKFORMER_ENGINE=$(CURDIR)/build/sanitize/libspikformer_engine.so ASAN_OPTIONS=detect_leaks=0 \
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	$(BIN)/python -m pytest -p no:cacheprovider -m 'not slow' $(SANITIZED)

bench: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/operations.py
	$(BIN)/python benchmarks/frames.py
	$(BIN)/python benchmarks/infer.py
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/spikformer bench benchmarks/weights/cifar10_4_384_3epochs.safetensors --sweep $(if $(DATA),--root '$(DATA)')

clean:
	rm -rf .venv .inductor dist build src/spikformer/engine/libspikformer_engine.*
