"""How new images come into a set that is there: what belongs where, and when it is in the set."""
