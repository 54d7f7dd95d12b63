"""The configuration: its tree (`tree`), where it is read from (`load`), what may not be combined (`rules`)."""
