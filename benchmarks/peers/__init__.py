"""`peers`: other projects' GANs trained on the same X-rays, each with its own networks and losses."""
