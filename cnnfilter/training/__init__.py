"""Learning weights from labelled pictures, and measuring how good they are."""
