"""Results as text for people: tables, drawings, progress."""
