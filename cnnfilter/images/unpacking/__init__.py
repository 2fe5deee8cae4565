"""Samples that no codec unpacks as they should be: packed bits and extra samples of TIFF, run lengths of TGA."""
