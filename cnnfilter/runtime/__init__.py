"""Threads, memory, limits and files on disk, for all other folders of the package."""
