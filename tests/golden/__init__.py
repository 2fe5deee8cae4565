"""Results that have to stay as they are: arrays of other programs, and hashes of what commands write."""
