"""Decides what is shown of runs side by side: which numbers may be compared, in which words and charts.

Called by `commands` alone. Imports `run` and the torch-free part of `metrics`: its registry and the lines of
the log. It reads run directories of anybody, so nothing in them is trusted.
"""
