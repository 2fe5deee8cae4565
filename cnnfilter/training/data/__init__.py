"""Labelled pictures: from folders, tables and arrays, in splits."""
