"""Learn weights from labelled pictures, and measure how good they are."""
