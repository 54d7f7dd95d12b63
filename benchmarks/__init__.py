"""Side-by-side timings against what people do today, and their recorded results. Not in the wheel."""
