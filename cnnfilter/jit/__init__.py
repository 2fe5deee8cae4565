"""From a Python loop to machine code: Numba compiles it once, afterwards it is loaded from a cache."""
