"""Learn weights from labelled pictures, and judge what was learned."""
