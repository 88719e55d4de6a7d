"""Floor 10: parse, one call, print."""
