"""Open files for what sends them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipcache.web.mapping import OpenFile
from tests.web.connections import Opened


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Opens a file with the given content, to be written too; closed at the end."""
    files: list[OpenFile] = []

    def make(content: bytes) -> OpenFile:
        path = tmp_path / f"{len(files)}"
        path.write_bytes(content)
        files.append(OpenFile(os.open(path, os.O_RDWR)))
        return files[-1]

    yield make
    for file in files:
        file.unmap()
        os.close(file.descriptor)
