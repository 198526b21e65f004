"""Batches on several machines, by Ray. The only folder that knows it; nothing else needs it."""
