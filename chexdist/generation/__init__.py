"""How pictures leave a run: audited for copies of training images, marked as synthetic, all of them or none."""
