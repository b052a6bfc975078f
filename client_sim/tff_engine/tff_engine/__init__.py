"""TensorFlow Federated as an engine and as a reference: a process that answers calls over its standard input and output."""
