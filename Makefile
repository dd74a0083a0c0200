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
test: test-unit test-live test-fleet test-provision test-build test-vm  ## all tests but the long ones

.PHONY: test-unit
test-unit: setup  ## seconds, no root, no network
	$(PYTHON) -m pytest -n 2 tests/unit

.PHONY: test-live
test-live: setup  ## a real Prometheus asks the node's exporter, on this machine (seconds)
	$(PYTHON) -m pytest tests/live

.PHONY: test-fleet
test-fleet: setup  ## playbooks: linters, and a rollout over simulated nodes (a minute)
	$(PYTHON) -m pytest -m "not long" tests/fleet

.PHONY: test-provision
test-provision: setup  ## the provisioning server in network namespaces, with real dnsmasq and nginx (root, a minute)
	$(PYTHON) -m pytest -n 2 --dist loadfile -m "not long" tests/provision

.PHONY: test-build
test-build: setup  ## real builds, two side by side: reproducibility, bad input, interruption (root, minutes)
	$(PYTHON) -m pytest -n 2 --dist loadfile -m "build and not long" tests/build

.PHONY: test-vm
test-vm: setup  ## the image in QEMU, two machines side by side (half an hour without KVM)
	$(PYTHON) -m pytest -n 2 --dist loadfile -m "vm and not long" tests/vm

.PHONY: test-long
test-long: setup  ## what `make test` leaves out: copies by Docker, GPU containers, bad versions (hours)
	scripts/setup long
	$(PYTHON) -m pytest -m "long" tests/build tests/fleet tests/provision tests/vm --ignore tests/vm/test_powercut.py

POINTS ?= 240
BOOTS ?= 12
SEED ?= 1
.PHONY: test-powercut
test-powercut: setup  ## the power fails at POINTS (240) of an update; BOOTS (12) of them are booted (two hours)
	POWERCUT_POINTS=$(POINTS) POWERCUT_BOOTS=$(BOOTS) POWERCUT_SEED=$(SEED) \
		$(PYTHON) -m pytest -s tests/vm/test_powercut.py

.PHONY: test-gpu
test-gpu: setup  ## a real GPU: asks its driver, and records the answers as a fixture
	$(PYTHON) -m pytest -m gpu tests/gpu

.PHONY: golden
golden: setup  ## regenerate golden files, schemas, dashboards, reference and man pages, completion
	$(PYTHON) -m builder.resolve
	$(PYTHON) -m tests.golden.regenerate
	$(PYTHON) -m monitoring
	$(PYTHON) -m reference

.PHONY: bench
bench: setup  ## measure against mkosi, side by side; writes docs/benchmarks.md
	$(PYTHON) -m bench

.PHONY: bench-container
bench-container: setup  ## measure the seeded store against docker load; needs an image of profile cpu
	$(IMGBUILD) build --profile cpu
	$(PYTHON) -m bench.zerocopy

.PHONY: bench-update
bench-update: setup  ## measure what an update costs a node, against a full download and casync
	$(PYTHON) -m bench.updates

.PHONY: bench-fleet
bench-fleet: setup  ## measure what plans and questions of many nodes cost this machine
	$(PYTHON) -m bench.fleet

.PHONY: bench-provision
bench-provision: setup  ## measure what the provisioning server hands out, against nginx alone (root)
	$(PYTHON) -m bench.provision

.PHONY: bench-flash
bench-flash: setup  ## measure flashing onto a loop device, against bmaptool and dd (root)
	$(PYTHON) -m bench.flash

.PHONY: bench-plots
bench-plots: setup  ## the measured tables as pictures, in docs/plots/
	.venv/bin/pip install --quiet --disable-pip-version-check --editable '.[plots]'
	$(PYTHON) -m bench.plots

.PHONY: bench-all
bench-all: bench bench-container bench-update bench-fleet bench-provision bench-flash bench-plots  ## everything that is measured, one after the other (root, hours)

.PHONY: clean
clean:  ## remove images and the cache
	rm -rf out .cache
