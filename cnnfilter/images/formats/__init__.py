"""The formats of files: bytes to pictures and back."""
