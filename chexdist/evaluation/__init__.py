"""What is measured of a generator, and of real X-rays beside it."""
