"""One picture is one job: read, worked on, written. Many run at a time, and each has one report."""
