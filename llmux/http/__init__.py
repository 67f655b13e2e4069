"""The door: access control, one module per API dialect, streams, and the server that carries them."""
