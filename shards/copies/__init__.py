"""Which images are copies of which: `equal` pictures by their digests, near-duplicates by how they look.

Near-duplicates are found in three steps: the scan makes a `fingerprint` of each image; `nearest` looks up
the few that look most like it; `registration` lays each of these over it. `linking` does so for some of the
images, and `search` for all of them, on the workers of a build.
"""
