"""Floor 8: measuring, in worker processes. Writes raw records; decides nothing."""
