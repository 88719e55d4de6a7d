"""A worker process and how it is reached."""
