"""Metadata with a structure of their own: the place on the earth (GeoTIFF), captions and keywords (IPTC)."""
