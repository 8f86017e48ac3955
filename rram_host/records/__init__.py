"""What a run leaves behind: a run file, or a folder with data, settings, seed and pictures."""
