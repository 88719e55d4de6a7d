"""Measuring, in worker processes. Writes raw records; decides nothing."""
