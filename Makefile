# Two commands do everything on a fresh machine: `make demo` and `make test`.
# They need Python 3.11 or newer, make and git; all else is installed into .venv from envs/cpu.lock.

PYTHON ?= python3
CORES  ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
STUDY  ?= config.yaml
LOCK   ?= envs/cpu.lock

VENV := .venv
BIN  := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: setup demo slurm-demo run plan flash-attn test test-slow test-long test-slurm test-slurm-long test-gpu gpu-check gpu-check-2 check format docs figure lock bench bench-quick clean help

help:
	@echo "make demo    set up, run the embedded study to its figures and report"
	@echo "make test    set up, run the tests"
	@echo "make run     run the study STUDY=my-study.yaml"
	@echo "make slurm-demo   the embedded study on a SLURM brought up on this machine (root, Debian)"
	@echo "make plan    say what a run of STUDY would do, why, and what it would cost"
	@echo "make gpu-check    what only a GPU can show, in ten minutes; ARGS='--minutes 20'; gpu-check-2 takes two GPUs"
	@echo "make check   formatting, lint, types, workflow lint, generated files"
	@echo "make docs    generate the configuration reference, the schema, the API pages and the benchmarks' table"
	@echo "make figure  draw the README's figure from the embedded study's results"
	@echo "make lock    resolve the locks in envs/ anew"
	@echo "make bench   speed and memory beside peers, as ratios; bench-quick takes ten minutes"
	@echo "make clean   remove .venv and caches (results stay)"

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	  sys.exit(None if v >= (3, 11) else f"Realign needs Python 3.11 or newer, and {sys.executable} is {v[0]}.{v[1]}; name another with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c $(LOCK) -e '.[models,slurm,dev]'
	@touch $@

demo: setup
	@$(BIN)/realign run --cores $(CORES)

# The jobs find this machine's cores shared out by SLURM, and its daemons are stopped at the end.
# Comparisons of toy models take seconds, so four share a job, as many as fit on a node.
MEASURES = from realign.measures.families import FAMILIES; print(*(f"{f.command}=measures" for f in FAMILIES.values()))
slurm-demo: setup
	bash tests/slurm/cluster.sh up
	trap 'bash tests/slurm/cluster.sh down wipe' EXIT; \
	  $(BIN)/snakemake --workflow-profile workflow/profiles/slurm --jobs $(CORES) \
	    --slurm-init-seconds-before-status-checks 2 --latency-wait 10 \
	    --groups pairs=pairs probe_corpus=probes check_pair=checks $$($(BIN)/python -c '$(MEASURES)') \
	    --group-components pairs=10 probes=10 checks=10 measures=4
	@$(BIN)/realign where config.yaml

run: setup
	@$(BIN)/realign run $(STUDY) --cores $(CORES)

plan: setup
	@$(BIN)/realign plan --configfile $(STUDY)

# Its build finds torch in the environment that it is built for, so pip must not isolate it from there.
flash-attn:
	$(BIN)/python -m pip install --quiet -c envs/gpu.lock wheel
	MAX_JOBS=4 $(BIN)/python -m pip install --no-build-isolation -c envs/gpu.lock flash-attn

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(CORES) --dist loadscope

test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(CORES) --dist loadscope --durations 40 -m 'slow and not long and not slurm and not gpu'

test-long: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(CORES) --dist loadscope -m 'long and not slurm'

test-slurm: setup
	$(BIN)/python -m pytest -q -m 'slurm and not long'

test-slurm-long: setup
	$(BIN)/python -m pytest -q -m 'slurm and long'

test-gpu: setup
	$(BIN)/python -m pytest -q -m gpu

gpu-check: setup
	$(BIN)/python -m bench gpu_check $(ARGS)

gpu-check-2: setup
	$(BIN)/python -m bench gpu_check --gpus 2 $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check --no-sort Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/python -m realign.study.document --check
	$(BIN)/python -m bench.table --check
	$(BIN)/python docs/generate.py --check
	$(BIN)/python docs/reread.py --check
	$(BIN)/python bench/scale.py --check

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt --no-sort Snakefile workflow

docs: setup
	$(BIN)/python -m realign.study.document --write
	$(BIN)/python -m bench.table --write
	$(BIN)/python docs/generate.py --write
	$(BIN)/python docs/reread.py --write
	$(BIN)/python bench/scale.py --page

figure: setup
	$(BIN)/realign figures --results results/tiny --only figure_floors --out build/manual
	cp build/manual/figures/figure_floors.png docs/figure.png

lock: setup
	$(BIN)/python -m pip install --quiet uv
	bash envs/lock.sh

bench: setup
	$(BIN)/python -m bench

bench-quick: setup
	$(BIN)/python -m bench --quick

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
