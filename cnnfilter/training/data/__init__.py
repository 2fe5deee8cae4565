"""Examples (labelled pictures) from folders, CSV files and arrays, in splits."""
