"""Whether a sample's JSON agrees with the manifest, and its record of the rendering with the picture."""

import json
from importlib import resources
from typing import Any

import numpy as np

from shards.manifest import Manifest
from shards.pixels.fit import fitting
from shards.write import sample_content

FIRST_WITH_RECORDS = 4  # version of the render settings
OF_VOI = {
    "window": {"center", "width", "function", "number", "of"},
    "lut": {"number", "of", "table_bits"},
    "percentiles": {"black", "white"},
    "full scale": set[str](),
}
"""What goes with each kind of `voi`, and with no other."""


class JsonCheck:
    """Checks the JSON of the samples of one split against the manifest."""

    def __init__(self, content: Manifest, split: str) -> None:
        import jsonschema

        schema = json.loads(resources.files("shards").joinpath("sample.schema.json").read_bytes())
        self._invalid = jsonschema.Draft202012Validator(schema).iter_errors
        self._content, self._split = content, split

    def __call__(
        self, text: bytes, label: int, patient: str, cluster: str, levels: np.ndarray | None
    ) -> str | None:
        """What is wrong with a sample's JSON; `levels`: its picture, None when that is damaged."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return "it does not agree with the manifest: no JSON"
        if not isinstance(found, dict):
            return "it does not agree with the manifest: no object"
        record = found.pop("render", None)
        if found != sample_content(label, patient, cluster, self._split, self._content.classes):
            return "it does not agree with the manifest"
        if record is None:
            late = self._content.render["version"] >= FIRST_WITH_RECORDS
            return "it has no record of its rendering" if late else None
        if error := next(self._invalid({**found, "render": record}), None):
            return f"{'/'.join(map(str, error.absolute_path))}: {error.message[:120]}"
        return self._contradiction(record, levels)

    def _contradiction(self, record: dict[str, Any], levels: np.ndarray | None) -> str | None:
        """Where a record of the right form contradicts itself, the settings or the picture."""
        render = self._content.render
        if record["fit"] != render.get("fit", "pad"):
            return f"fit {record['fit']} is not that of the manifest"
        if record.keys() & set().union(*OF_VOI.values()) != OF_VOI[record["voi"]]:
            return f"its record does not hold what voi {record['voi']} needs"
        if record.get("number", 1) > record.get("of", 1) or record.get("black", 0) >= record.get("white", 1):
            return "its record contradicts itself"
        plan = fitting(tuple(record["shape"]), render["size"], record["aspect"], record["fit"])
        near = np.allclose(record["from"], plan.source, atol=0.02, rtol=1e-5)
        if not near or not np.allclose(record["to"], plan.target, atol=1):
            return "its record places the picture elsewhere than its shape and fit do"
        if levels is not None:
            top, left, bottom, right = map(int, record["to"])
            around = np.ones(levels.shape, bool)
            around[top:bottom, left:right] = False
            if levels[around].any():
                return "its picture is not black where the record says so"
        return None
