"""One short YAML per experiment; `chexdist train --config NAME` finds them here."""
