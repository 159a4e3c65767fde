# make demo | test | bench | lint ...: each makes .venv for itself, on a machine with python3, g++, make and git alone.

PYTHON ?= python3
WHEELS ?= dist
BENCH_JSON ?=
BENCH_ONLY ?=
RISCV_REF ?=
FUZZ_SECONDS ?= 60

VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

PLUGINS := plugins/smmuv3_cmdqv plugins/amd_viommu plugins/vtd
CAPTURES := tests/data/captures
# Folders are listed too: theirs is the time stamp that moves when a file goes.
ENGINE_SOURCES := $(shell find cpp/CMakeLists.txt cpp/include cpp/src)
# An editable install knows each module by its path: it is made anew when one comes, goes or moves.
PACKAGE_FOLDERS := $(shell find core/viommu -type d -not -name __pycache__ -not -path '*/templates/*')
CPP_FILES = $(shell find cpp -name '*.hpp' -o -name '*.cpp')
PYTEST ?= pytest

.PHONY: setup demo test test-cpp test-py test-long instructions fuzz bench bench-plots docs lint format sanitize wheels clean
.DELETE_ON_ERROR:

setup: $(VENV)/.plugins

$(VENV)/.tools: pyproject.toml tools/prerequisites
	@tools/prerequisites $(PYTHON)
	@echo "viommu: tools into $(VENV)"
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install -qq --upgrade 'pip>=25.1'
	@$(VENV)/bin/python -m pip install -qq --group dev
	@touch $@

# Not isolated, and into a folder of build/ that stays: only what changed is compiled again.
$(VENV)/.engine: $(VENV)/.tools $(ENGINE_SOURCES) $(PACKAGE_FOLDERS)
	@echo "viommu: compiling the engine"
	@$(VENV)/bin/python -m pip install -qq --no-build-isolation -e .
	@touch $@

$(VENV)/.plugins: $(VENV)/.engine $(PLUGINS:%=%/pyproject.toml)
	@$(VENV)/bin/python -m pip install -qq --no-build-isolation $(PLUGINS:%=-e %)
	@touch $@

demo: setup
	viommu replay $(CAPTURES)
	viommu walk $(CAPTURES)/smmuv3-nested-4k-48 --rid 0x28 0x2010 --access r

# $(call cmake,FOLDER,OPTIONS): configure and build in build/FOLDER. Warnings are errors where the machine is a robot.
cmake = echo "viommu: building build/$(1)" && cmake -S cpp -B build/$(1) -G Ninja \
	-DCMAKE_COMPILE_WARNING_AS_ERROR=$(if $(CI),ON,OFF) $(2) >/dev/null \
	&& cmake --build build/$(1) -- --quiet
ctest = ctest --test-dir build/$(1) --output-on-failure --no-tests=ignore

test: test-cpp test-py

test-cpp: $(VENV)/.tools
	@$(call cmake,tests,-DVIOMMU_TESTS=ON)
	@$(call ctest,tests)

test-py: setup
	$(PYTEST)

# Minutes to hours: VIOMMU_LONG_EXAMPLES is how many examples each property is tried with.
test-long: setup
	$(PYTEST) -m long --hypothesis-profile=long
	$(MAKE) instructions
	$(MAKE) fuzz

# Instructions of the hot paths against a baseline. After a change that is meant to be:
# python -m tools.bench.instructions build/bench/bench/engine cpp/bench/instructions.json --update
instructions: setup
	@tools/prerequisites $(PYTHON) valgrind=valgrind || true
	@$(call cmake,bench,$(BENCH_OPTIONS))
	python -m tools.bench.instructions build/bench/bench/engine cpp/bench/instructions.json

# libFuzzer comes with clang. Each target has FUZZ_SECONDS, and keeps its corpus in build/corpus; so has each vendor's
# hardware model, under sanitizers.
fuzz: setup
	@tools/prerequisites $(PYTHON) clang++=clang,libclang-rt-dev
	@$(call cmake,fuzz,-DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=RelWithDebInfo -DVIOMMU_FUZZ=ON \
		-DVIOMMU_SANITIZE=address$(,)undefined)
	@set -e; for target in build/fuzz/fuzz/*; do \
		corpus=build/corpus/$$(basename $$target); mkdir -p $$corpus; \
		$$target $$corpus -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1; \
	done
	@$(asan_build)
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(ASAN_ENGINE) $(PYTEST) -m long tests/fuzz

# BENCH_JSON: where to write the rows. BENCH_ONLY: goals or groups that contain this. RISCV_REF: a checkout of
# riscv-non-isa/riscv-iommu, whose reference model is then measured too. All is built twice: as it is shipped, and for
# this machine alone.
BENCH_OPTIONS = -DVIOMMU_BENCH=ON -DPython_EXECUTABLE=$(CURDIR)/$(VENV)/bin/python

bench: setup
	@pkg-config --exists glib-2.0 2>/dev/null || tools/prerequisites $(PYTHON) glib-2.0.pc=pkg-config,libglib2.0-dev || true
	@rm -f build/bench/bench/model  # of a run that was given a checkout
	@$(call cmake,bench,$(BENCH_OPTIONS) -DVIOMMU_RISCV_REF=$(abspath $(RISCV_REF)))
	@$(call cmake,bench-native,-DVIOMMU_BENCH=ON -DVIOMMU_ARCH=native)
	@python -m tools.bench build/bench/bench --native build/bench-native/bench $(if $(BENCH_JSON),--json $(BENCH_JSON)) \
		--only "$(BENCH_ONLY)"

# How cost grows with working set, fill, depth, threads, streams and batch size, drawn for docs/performance.md.
bench-plots: setup
	@$(VENV)/bin/python -m pip install -qq --group plots
	@$(call cmake,bench,$(BENCH_OPTIONS))
	python -m tools.bench.plots build/bench/bench/engine docs/plots

# The site, into build/docs; a warning is an error.
docs: setup
	@$(VENV)/bin/python -m pip install -qq --group docs
	python -m sphinx -W --keep-going -q -j auto -b html docs build/docs
	@echo "viommu: build/docs/index.html"

lint: setup
	ruff check
	ruff format --check
	mypy
	lint-imports
	clang-format --dry-run -Werror $(CPP_FILES)

format: $(VENV)/.tools
	ruff check --fix
	ruff format
	clang-format -i $(CPP_FILES)

, := ,
SANITIZED := -DCMAKE_BUILD_TYPE=RelWithDebInfo -DVIOMMU_TESTS=ON
# Python itself was not built with it: it has to be there before Python is, and Python's own leaks are not ours.
ASAN_PYTHON = LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0

asan_build = $(call cmake,asan,$(SANITIZED) -DVIOMMU_SANITIZE=address$(,)undefined -DVIOMMU_MODULE=ON \
	-DPython_EXECUTABLE=$(CURDIR)/$(VENV)/bin/python -Dpybind11_DIR=$$(pybind11-config --cmakedir))
ASAN_ENGINE = $(ASAN_PYTHON) VIOMMU_ENGINE=$$(echo build/asan/_engine.*.so)

# What Python itself does with threads is not looked at, only what the engine does.
TSAN_PYTHON = LD_PRELOAD="$$(g++ -print-file-name=libtsan.so)" TSAN_OPTIONS="ignore_noninstrumented_modules=1 exitcode=66"
TSAN_ENGINE = $(TSAN_PYTHON) VIOMMU_ENGINE=$$(echo build/tsan/_engine.*.so)

sanitize: setup
	@$(asan_build)
	@$(call ctest,asan)
	@$(call cmake,tsan,$(SANITIZED) -DVIOMMU_SANITIZE=thread -DVIOMMU_MODULE=ON \
		-DPython_EXECUTABLE=$(CURDIR)/$(VENV)/bin/python -Dpybind11_DIR=$$(pybind11-config --cmakedir))
	@$(call ctest,tsan)
	$(TSAN_ENGINE) $(PYTEST) -m long tests/iommufd/test_hammer.py
	$(TSAN_ENGINE) $(PYTEST) tests/plugins/test_hammer.py
	$(ASAN_ENGINE) $(PYTEST) $(wildcard tests/engine tests/oracle)

# All four distributions, and the proof: they install into an empty environment, and work there; so does a stranger's
# driver that is begun there.
wheels: $(VENV)/.tools
	rm -rf build/wheels build/wheel-check
	for source in . $(PLUGINS); do $(VENV)/bin/python -m build --outdir build/wheels $$source || exit 1; done
	mkdir -p $(WHEELS) && cp build/wheels/* $(WHEELS)
	$(PYTHON) -m venv build/wheel-check
	build/wheel-check/bin/python -m pip install -qq build/wheels/*.whl
	cd build/wheel-check && bin/viommu new-driver acme && bin/python -m pip install -qq ./acme && bin/viommu conform acme
	cd build/wheel-check && bin/viommu drivers
	cd build/wheel-check && bin/viommu replay $(CURDIR)/$(firstword $(sort $(wildcard $(CAPTURES)/*/)))

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks
