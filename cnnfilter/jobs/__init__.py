"""Jobs: each reads a picture, works on it and writes it. Many run at a time, and each has one report."""
