"""One picture is one job: read, worked on, written; many at a time, one report each."""
