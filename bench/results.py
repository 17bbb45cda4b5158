"""What benchmarks found, as data: one JSON a command, with the commit and the machine it was run on.

`bench/results/<name>.json` holds a benchmark at its default size, `<name>+<options>.json` at another.
docs/benchmarks.md is made from these files alone.
"""

import json
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
PACKAGES = ("torch", "transformers", "sentence-transformers", "mteb", "deepspeed", "snakemake", "numpy")


def path_of(name: str, options: list[str]) -> Path:
    """Where a benchmark's result lies: its name and its options decide."""
    words = re.sub(r"[^A-Za-z0-9.]+", "-", " ".join(options)).strip("-")
    return RESULTS / (f"{name}+{words}.json" if words else f"{name}.json")


def keep(name: str, options: list[str], load: float, seconds: float, rows: list[dict]) -> Path:
    """Write one benchmark's numbers; `load` is the machine's load just before it began."""
    result = {
        "benchmark": name,
        "command": " ".join(["python -m bench", name, *options]),
        "commit": _git("rev-parse", "HEAD"),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "load_before": round(load, 1),
        "seconds": round(seconds),
        "rows": rows,
    }
    path = path_of(name, options)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def kept() -> list[dict]:
    """All results that are kept, by file name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]


def uncommitted() -> str:
    """What of the code differs from the commit that a result would name."""
    return _git("status", "--porcelain", "--", "src", "bench/*.py", "workflow", "Snakefile")


def machine() -> dict:
    """The machine, as far as it decides a time."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor()


def _gpu() -> str:
    if not Path("/proc/driver/nvidia").exists():
        return ""
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return ", ".join(
        subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split("\n")[:-1]
    )


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
