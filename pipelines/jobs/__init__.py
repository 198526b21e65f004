"""Many pictures from one file of jobs: read, planned, rendered by any number of processes, and never lost."""
