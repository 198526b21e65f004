"""A vision model, or people, as the judge of two pictures."""
