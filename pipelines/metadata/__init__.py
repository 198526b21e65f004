"""What pictures say of how they were made: written as other tools read it, read as other tools write it."""
