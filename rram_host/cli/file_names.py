"""Names that --out takes: refused at once where they end like a file of another format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

# What files are called here and elsewhere: a folder of such a name is a mistake.
_OF_FILES = frozenset(
    {".csv", ".h5", ".hdf5", ".jpg", ".json", ".jsonl", ".log", ".nc", ".npy", ".npz", ".pdf"}
    | {".png", ".pt", ".safetensors", ".svg", ".toml", ".txt"}
)


class FileEnding(click.Path):
    """A file of one format, which the end of its name tells.

    Args:
        ending: with its dot.
        what: such a file, as in "a run file".
    """

    def __init__(self, ending: str, what: str) -> None:
        super().__init__(path_type=Path, dir_okay=False)
        self._ending, self._what = ending, what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, if it ends as it must."""
        path: Any = super().convert(value, param, ctx)
        if path.suffix != self._ending:
            self.fail(f"{path}: the name of {self._what} ends in {self._ending}", param, ctx)
        return path


class FolderName(click.Path):
    """A folder, which is not called like a file.

    Args:
        but: ending of a file that may stand in its place, with its dot; None for none.
    """

    def __init__(self, but: str | None = None) -> None:
        super().__init__(path_type=Path, file_okay=but is not None)
        self._but = but

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, if it may be a folder's."""
        path: Any = super().convert(value, param, ctx)
        if path.suffix in _OF_FILES - {self._but} and not path.is_dir():
            wanted = f"a file that ends in {self._but}, or a folder" if self._but else "a folder"
            self.fail(f"{path}: this must be {wanted}, not a {path.suffix} file", param, ctx)
        return path


RUN_FILE = FileEnding(".h5", "a run file")
