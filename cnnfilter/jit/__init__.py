"""Compiled loops: Numba compiles each once; later runs load its machine code from a cache, without Numba."""
