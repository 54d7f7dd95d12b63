"""Launch files, found by name in an installed package too: `accelerate/` configurations for `accelerate launch --config_file`."""
