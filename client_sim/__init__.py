"""Simulated devices: population, conditions, local data, records, sessions, faults, transports and workers."""
