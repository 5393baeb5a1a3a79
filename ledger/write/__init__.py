"""How rows get in: binary COPY, idempotency by key, the same for sync and async callers."""
