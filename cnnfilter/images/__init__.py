"""A picture in memory, and its way from and to files."""
