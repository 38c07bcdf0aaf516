"""What plugs in: each package speaks to one technology, knows ports and contracts, and no sibling."""
