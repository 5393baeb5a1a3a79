"""What goes into the ledger, and what comes out of it."""
