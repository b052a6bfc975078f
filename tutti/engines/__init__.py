"""Engines that run a task in our stead, each in an environment and a process of its own.

`tff` is TensorFlow Federated: its training, clipping, noise and sums; our cohorts, records, charges, entries and report.
"""
