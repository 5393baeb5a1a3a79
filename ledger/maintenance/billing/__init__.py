"""Whether the billing ledger's books are true: the statements that recompute them."""
