"""Train chest X-ray GANs over any number of machines, exactly and privately."""

__version__ = "0.1.0"
