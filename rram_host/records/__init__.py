"""What a run leaves behind: a folder with data, settings, seed and pictures."""
