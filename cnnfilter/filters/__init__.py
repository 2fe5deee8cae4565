"""A window slides over an array: convolution and pooling."""
