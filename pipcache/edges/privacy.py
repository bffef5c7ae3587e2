"""Privacy: at start the cache's folders are closed to other users, whoever made them and however.

Files in a folder that nobody else may enter need nothing more. The directory itself is closed only where all that is in it
is ours: one that is used for other things too is not ours to close.
"""

from __future__ import annotations

from pathlib import Path

from pipcache.edges.files import Files
from pipcache.rules.meta import is_folder_name

_FOLDERS = frozenset({"tmp", "quarantine"})


def close_to_others(root: Path, files: Files) -> tuple[str, ...]:
    """Make the folders their owner's alone; returns what could not be done, in sentences for the operator."""
    try:
        names = {entry.name for entry in files.entries(root)}
    except OSError as error:
        return (f"the cache directory {root} cannot be listed: {error.strerror}",)
    folders = {name for name in names if is_folder_name(name) or name in _FOLDERS}
    foreign = names - folders - {"VERSION"}
    refused: list[str] = []
    for path in [root / name for name in sorted(folders)] + ([] if foreign else [root]):
        try:
            files.make_private(path)
        except OSError as error:
            refused.append(f"{path} cannot be made its owner's alone: {error.strerror}")
    warnings = refused[:1]
    if len(refused) > 1:
        warnings.append(f"so it is with {len(refused) - 1} more folders in the cache directory {root}")
    if foreign and _is_open(root, files):
        warnings.append(
            f"other users may enter the cache directory {root}, which is left so because it also holds "
            f"{min(foreign)!r}, which is not pipcache's; set cache.dir to a directory of its own"
        )
    return tuple(warnings)


def _is_open(root: Path, files: Files) -> bool:
    try:
        return bool(files.status_of(root).st_mode & 0o077)
    except OSError:
        return False
