#!/usr/bin/env python
"""Verify the billing ledger that dashboards ask: `ledger verify analytics`, from a checkout."""

from __future__ import annotations

import sys

from ledger.cli.main import main

if __name__ == "__main__":
    main(["verify", "analytics", *sys.argv[1:]])
