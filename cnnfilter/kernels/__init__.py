"""Kernels, the weights of filters: from a name, from numbers, from a file or from a model."""
