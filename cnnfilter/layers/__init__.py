"""Stacks of layers, as text and as objects: shapes, costs, maps."""
