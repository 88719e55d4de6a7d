"""Parse, one call, print."""
