"""Forward and backward passes of a network: its loss on a batch, and the gradients of its parameters."""
