"""Everything that touches a model: loading, the adapter bank, the loop, pictures, the command line."""
