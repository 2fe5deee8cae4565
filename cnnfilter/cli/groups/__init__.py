"""Groups of options that several commands have."""
