"""Evidence: all that a claim stands on, in one file that anyone can check again (docs/evidence.md)."""
