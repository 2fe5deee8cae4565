"""The commands, one module each: options, one call of the library, output."""
