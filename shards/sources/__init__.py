"""What decides which files, classes and patients there are, before any picture is decoded."""
