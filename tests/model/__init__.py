"""A model of the protocol: explored whole within bounds, broken on purpose, and held against the real stores."""
