"""Runs side by side on one page: reads run directories, compares what may be compared, draws it without a network."""
