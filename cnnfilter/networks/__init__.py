"""Networks, which are layers with weights: read from a file, run, explained and exported."""
