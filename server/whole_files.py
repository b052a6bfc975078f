"""Files that are there whole or not at all, whenever the process or the machine stops: keys, and what guards their use.

The content is forced to the disk under another name in the same directory before the file gets its own, and the directory after
that (POSIX: `link` and `rename` are atomic, and neither is durable before the directory is).
"""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems without hard links say: FAT, and many shares of other machines."""


def create(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Writes a new file; its directory has to be there.

    Raises:
      FileExistsError: if there is a file of this name, which stays as it is.
    """
    _put(path, content, mode, _link)


def replace(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Writes a file, in the place of the one that may be there."""
    _put(path, content, mode, os.replace)


def _link(fresh: str, path: Path) -> None:
    try:
        os.link(fresh, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # The name is taken first, by a file with nothing in it: that is what a stop in between leaves.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        Path(fresh).replace(path)


def _put(path: Path, content: bytes, mode: int, place: Callable[[str, Path], None]) -> None:
    descriptor, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        place(fresh, path)
    finally:
        Path(fresh).unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
