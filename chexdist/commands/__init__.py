"""What each `chexdist` command does; loaded when it is called."""
