"""Every benchmark in turn, each as a process of its own: `python -m bench [NAME …]`.

Each prints its own ratios, measured within one run against a peer or a bare baseline, and says in
its first lines what it measures; `python bench/NAME.py --help` lists its sizes.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = ("dag", "extraction", "hrsa", "mining", "training", "evaluation")


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; the exit code counts those that failed."""
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    failed = 0
    for name in names or NAMES:
        print(f"\n== {name}", flush=True)
        failed += subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
