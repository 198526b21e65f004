"""A small world in which every composition of concepts has a ground-truth picture."""
