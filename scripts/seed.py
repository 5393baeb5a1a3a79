#!/usr/bin/env python
"""Fill a database with realistic calls to language models: `ledger seed`, from a checkout."""

from __future__ import annotations

import sys

from ledger.cli.main import main

if __name__ == "__main__":
    main(["seed", *sys.argv[1:]])
