"""How long the package takes to import, and ``mcpaudit-lab --help`` to answer.

python benchmarks/startup.py --rounds 15
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

PROGRAMS = {
    "bare interpreter": "pass",
    "import mcpaudit_lab": "import mcpaudit_lab",
    "mcpaudit-lab --help": (
        "import sys; sys.argv = ['mcpaudit-lab', '--help'];"
        "from mcpaudit_lab.cli import main; main()"
    ),
}
IMPORT_MARK_S = 0.15
HELP_MARK_S = 0.3


def seconds(program: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = range(parser.parse_args().rounds)
    # Programs take turns, so that a busy moment is shared.
    runs = [{name: seconds(program) for name, program in PROGRAMS.items()} for _ in rounds]
    median = {name: statistics.median(run[name] for run in runs) for name in PROGRAMS}
    bare, imported, answered = median.values()
    for name, value in median.items():
        print(f"{name:20} {value:6.3f} s")
    print(f"import costs {imported - bare:.3f} s (mark {IMPORT_MARK_S})")
    print(f"help comes in {answered:.3f} s (mark {HELP_MARK_S})")
    sys.exit(imported - bare > IMPORT_MARK_S or answered > HELP_MARK_S)


if __name__ == "__main__":
    main()
