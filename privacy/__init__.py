"""Mechanisms, samplers and accounting."""
