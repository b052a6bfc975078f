"""How a device's messages reach a server: by direct call (tests), or over gRPC."""
