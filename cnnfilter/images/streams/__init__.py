"""Several pictures one after another in one stream of bytes: where each of them ends, and each as it comes."""
