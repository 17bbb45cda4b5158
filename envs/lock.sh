#!/usr/bin/env bash
# Writes both locks from pyproject.toml and pins.txt: plain pinned versions, no hashes and no paths,
# so that they mean the same on every machine. Run it through `make lock` after a change of either.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}

resolve() { # lock file, extras…
    local out=$1; shift
    # Local wheel folders must not end up in a lock.
    env -u PIP_FIND_LINKS "$uv" pip compile -q pyproject.toml -c envs/pins.txt "${@/#/--extra=}" \
        --python-version 3.11 --python-platform x86_64-unknown-linux-gnu \
        --no-header --no-annotate -o "$out.new"
    mv "$out.new" "$out"
}

resolve envs/gpu.lock models gpu slurm dev
resolve envs/cpu.lock models slurm dev
# A CPU build of torch needs none of these, and a CUDA build asks for its own.
sed -i -E '/^(nvidia-|cuda-|triton)/d' envs/cpu.lock
for lock in envs/cpu.lock envs/gpu.lock; do
    sed -i "1i # Made by \`make lock\` from pyproject.toml and envs/pins.txt; do not edit." "$lock"
done
