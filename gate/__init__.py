"""Decide. A policy, records and a baseline become findings; CI reads them."""
