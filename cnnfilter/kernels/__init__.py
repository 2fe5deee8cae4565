"""What slides over a picture: a kernel from a name, numbers, a file or a model."""
