"""Pictures in memory, read from files and written to files."""
