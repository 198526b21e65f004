"""A report as one page that needs nothing else, and its figures as files."""
