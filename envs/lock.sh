#!/usr/bin/env bash
# Writes the locks from pyproject.toml and pins.txt: plain pinned versions, no hashes and no paths,
# so that they mean the same on every machine. Run it through `make lock` after a change of either.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}

backend=() # which builds of torch, where not those of the package index
resolve() { # lock file, extras…
    local out=$1; shift
    # Local wheel folders must not end up in a lock.
    env -u PIP_FIND_LINKS "$uv" pip compile -q pyproject.toml -c envs/pins.txt "${@/#/--extra=}" "${backend[@]}" \
        --python-version 3.11 --python-platform x86_64-unknown-linux-gnu \
        --no-header --no-annotate -o "$out.new" || return
    sed "1i # Made by \`make lock\` from pyproject.toml and envs/pins.txt; do not edit." "$out.new" >"$out"
    rm "$out.new"
}

resolve envs/gpu.lock models gpu slurm dev
resolve envs/cpu.lock models slurm dev
# A CPU build of torch needs none of these, and a CUDA build asks for its own.
sed -i -E '/^(nvidia-|cuda-|triton)/d' envs/cpu.lock
# For drivers from 525 on: the same with PyTorch's builds for CUDA 12, which lie on an index of its own.
backend=(--torch-backend cu126)
resolve envs/gpu-cuda12.lock models gpu slurm dev ||
    echo "envs/gpu-cuda12.lock is not made anew: PyTorch's index for CUDA 12 is out of reach" >&2
