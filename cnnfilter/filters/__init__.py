"""Convolution and pooling: a window slides over an array."""
