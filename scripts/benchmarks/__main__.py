"""`scripts/bench telemetry|billing|audit`: each figure promised, against a baseline beside it."""

from __future__ import annotations

import argparse

from scripts.benchmarks import audit, billing, telemetry

_BENCHMARKS = {
    "audit": (audit.run, 1_000_000),
    "billing": (billing.run, 5_000_000),
    "telemetry": (telemetry.run, 5_000_000),
}
"""What measures, and over how many rows unless it is told."""


def main() -> None:
    """Run the benchmark that is named."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("benchmark", choices=sorted(_BENCHMARKS))
    parser.add_argument("--rows", type=int, help="calls over 30 days, or 90; runs over 90")
    parser.add_argument(
        "--databases", default="", help="only targets whose names begin so: embedded,timescale"
    )
    arguments = parser.parse_args()
    measure, rows = _BENCHMARKS[arguments.benchmark]
    names = tuple(filter(None, arguments.databases.split(",")))
    measure(arguments.rows or rows, names)


if __name__ == "__main__":
    main()
