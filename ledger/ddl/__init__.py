"""What the database should have, how it gets it, and whether it still has it."""
