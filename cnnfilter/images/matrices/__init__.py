"""Matrices of numbers as text, read and written as pictures of one channel."""
