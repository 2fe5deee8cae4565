"""Forward and backward passes of the layers that are trained."""
