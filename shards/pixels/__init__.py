"""From a file to gray values: DICOM, PNG and JPEG read safely, rendered by the standard, or refused.

`render.py` says how an X-ray looks; `decode.py` and `raster.py` read the two kinds of files; the rest serves
these three.
"""
