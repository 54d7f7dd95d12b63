# What people type. Everything shares one .venv, made once in this clone.
PYTHON ?= python3
BIN := .venv/bin

DEFAULT := not slow and not slurm and not chaos
# A worker a core; a file's tests stay together, since they share fixtures.
WORKERS := --numprocesses logical --maxprocesses 4 --dist loadfile

.PHONY: help demo test test-fast test-slow test-gpu test-slurm test-chaos lint type format clean
help:
	@echo "make demo        phantom X-rays -> shards -> four GANs over two processes -> metrics -> report"
	@echo "make test        lint, types and the default tests"
	@echo "make test-fast   lint, types and the tests that train no whole run: under three minutes on two cores"
	@echo "make test-slow   the tests of minutes each: 50 kills, every instruction set, an empty environment"
	@echo "make test-gpu    the promises on CUDA and NCCL; without a device the same tests on the CPU, as a dry run"
	@echo "make test-slurm  training on a real Slurm of three nodes, and over a cut link, on this machine;"
	@echo "                 CHEXDIST_ALLOW_APT=1 may install both"
	@echo "make test-chaos  random faults against training, builds, evaluate and generate; CHAOS_SECONDS=600,"
	@echo "                 CHAOS_TRIALS, CHAOS_SEED=0; CHAOS_ONLY=SEED repeats one trial; as root, for disks and"
	@echo "                 hosts of its own"
	@echo "make format      rewrite the sources in the project's style"

.venv/.ready: setup.cfg pyproject.toml shards/__init__.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: .venv/.ready
	$(BIN)/mypy

test: .venv/.ready lint type
	$(BIN)/python -m pytest $(WORKERS) -m '$(DEFAULT)'

test-fast: .venv/.ready lint type
	$(BIN)/python -m pytest $(WORKERS) -m '$(DEFAULT) and not trains'

test-slow: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[ray]'
	$(BIN)/python -m pytest -m slow

test-gpu: .venv/.ready
	$(BIN)/python -m pytest -m gpu tests/gpu

test-slurm: .venv/.ready
	$(BIN)/python -m pytest -m slurm tests/slurm tests/network

test-chaos: .venv/.ready
	$(BIN)/python -m pytest -m chaos tests/chaos

format: .venv/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: .venv/.ready
	$(BIN)/chexdist demo --out demo

clean:
	rm -rf .venv demo build *.egg-info
