# The front door. `make demo` and `make test` work from a fresh clone on a fresh Debian 12.
PYTHON := .venv/bin/python
IMGBUILD := .venv/bin/imgbuild
PROFILE ?= cpu

.PHONY: help
help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: setup
setup: .venv/.done  ## install what the build needs (apt, root) and a virtual environment

.venv/.done: pyproject.toml scripts/setup
	scripts/setup
	touch $@

.PHONY: demo
demo: setup  ## build the cpu image, boot it in QEMU, ask its model a question
	$(IMGBUILD) doctor
	$(IMGBUILD) build --profile cpu
	$(IMGBUILD) boot --ask "What is the capital of France?"

.PHONY: build
build: setup  ## build PROFILE (default cpu)
	$(IMGBUILD) build --profile $(PROFILE)

.PHONY: test
test: test-unit test-build test-vm  ## all tests but the long ones

.PHONY: test-unit
test-unit: setup  ## seconds, no root, no network
	$(PYTHON) -m pytest tests/unit

.PHONY: test-build
test-build: setup  ## real builds: reproducibility, bad input, interruption (root, minutes)
	$(PYTHON) -m pytest -m "build and not long" tests/build

.PHONY: test-vm
test-vm: setup  ## the image in QEMU (minutes)
	$(PYTHON) -m pytest -m "vm and not long" tests/vm

.PHONY: test-long
test-long: setup  ## what `make test` leaves out: what fails slowly, newer Dockers, GPU containers, bad versions (hours)
	$(PYTHON) -m pytest -m "long" tests/build tests/vm

.PHONY: test-gpu
test-gpu: setup  ## a real GPU: asks its driver, and records the answers as a fixture
	$(PYTHON) -m pytest -m gpu tests/gpu

.PHONY: golden
golden: setup  ## regenerate golden files and schemas
	$(PYTHON) -m builder.resolve
	$(PYTHON) -m tests.golden.regenerate

.PHONY: bench
bench: setup  ## measure against mkosi, side by side; writes docs/benchmarks.md
	$(PYTHON) -m bench

.PHONY: bench-container
bench-container: setup  ## measure the seeded store against docker load; needs an image of profile cpu
	$(IMGBUILD) build --profile cpu
	$(PYTHON) -m bench.zerocopy

.PHONY: clean
clean:  ## remove images and the cache
	rm -rf out .cache
