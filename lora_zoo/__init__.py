"""LoRA files and the embedded zoo: reading any dialect, the catalogue, the models kept in the repository."""
