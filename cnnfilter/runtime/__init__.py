"""Threads, memory, limits and files on disk, for all other wings."""
