"""Pooling: a window slides over an array, and each window becomes its maximum, minimum or mean."""
