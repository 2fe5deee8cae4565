"""Tags of TIFF files that hold more than text: the place on the earth (GeoTIFF)."""
