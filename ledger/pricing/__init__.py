"""What a call costs, and what is charged for it: pure arithmetic, without a database."""
