"""The machine below: threads, memory, limits, files on disk."""
