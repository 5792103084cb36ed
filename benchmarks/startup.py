"""How long the package and the command line take to start, beside a bare interpreter.

    python benchmarks/startup.py --runs 21

Each round starts a bare interpreter, one that imports the package, and ``mcpaudit-lab --help``, one
after the other, so that what slows the machine down slows all three. What is printed are medians:
the time, what it is more than the bare interpreter's of the same round, and how many times as long.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from typing import Final

STARTS: Final = {
    "bare interpreter": ("-c", "pass"),
    "import mcpaudit_lab": ("-c", "import mcpaudit_lab"),
    "mcpaudit-lab --help": ("-c", "from mcpaudit_lab.cli import main; main()", "--help"),
}


def start_ms(words: tuple[str, ...]) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - begin) * 1000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=21)
    options = parser.parse_args()
    for words in STARTS.values():
        start_ms(words)  # the first one reads from disk, and writes bytecode
    rounds = [[start_ms(words) for words in STARTS.values()] for _ in range(options.runs)]
    for number, name in enumerate(STARTS):
        took = statistics.median(times[number] for times in rounds)
        more = statistics.median(times[number] - times[0] for times in rounds)
        ratio = statistics.median(times[number] / times[0] for times in rounds)
        print(f"{name:20} {took:6.0f} ms   {more:+6.0f} ms   {ratio:4.1f} times")


if __name__ == "__main__":
    main()
