"""Stand-ins of the vendors' APIs on loopback, each a program: `python -m tests.upstreams.NAME --port 0`."""
