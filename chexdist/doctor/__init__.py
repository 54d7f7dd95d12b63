"""`chexdist doctor`: what this machine and a configuration can and can't do, found out by trying it."""
