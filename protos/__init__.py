"""The wire: .proto files and the Python that `make protos` generates from them."""
