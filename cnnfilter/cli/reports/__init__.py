"""Results as lines of text and as data: tables, drawings, progress."""
