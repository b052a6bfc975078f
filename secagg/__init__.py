"""Secure aggregation: sums of integer vectors of which no single one can be read. It knows nothing of privacy mechanisms."""
