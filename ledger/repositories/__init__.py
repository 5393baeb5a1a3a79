"""The ledger as a program uses it: opened, asked and written to."""
