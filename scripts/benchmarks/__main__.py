"""`scripts/bench telemetry|billing`: every figure promised, against a baseline of the same run."""

from __future__ import annotations

import argparse

from scripts.benchmarks import billing, telemetry

_BENCHMARKS = {"billing": billing.run, "telemetry": telemetry.run}


def main() -> None:
    """Run the benchmark that is named."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("benchmark", choices=sorted(_BENCHMARKS))
    parser.add_argument("--rows", type=int, default=5_000_000, help="calls over 30 days, or 90")
    parser.add_argument(
        "--databases", default="", help="only targets whose names begin so: embedded,timescale"
    )
    arguments = parser.parse_args()
    _BENCHMARKS[arguments.benchmark](
        arguments.rows, tuple(filter(None, arguments.databases.split(",")))
    )


if __name__ == "__main__":
    main()
