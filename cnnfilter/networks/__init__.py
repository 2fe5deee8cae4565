"""Layers with weights: read from a file, run, explained, exported."""
