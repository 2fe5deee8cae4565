"""The compression of pictures in files: the settings that were asked for, and those of a file that was read."""
