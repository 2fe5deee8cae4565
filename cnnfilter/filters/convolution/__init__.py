"""Convolution: a kernel slides over an array, and each window becomes one sum."""
