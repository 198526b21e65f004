"""Whose a data folder is: of the one server that holds its lock, which the system frees at that server's death."""

from __future__ import annotations

import json
import os
from pathlib import Path

from filelock import FileLock, Timeout

from lora_zoo.errors import ZooError
from lora_zoo.foreign import documents, files
from ui.errors import FolderInUse

_LOCK = ".server.lock"
_TOLD = ".server.json"  # who holds the lock, for those who come too late; without the lock it means nothing
_MOST = 10_000  # bytes of it


class Owner:
    """The claim of this process on a data folder, from the moment it is made until it is released."""

    def __init__(self, folder: Path, address: str = "") -> None:
        """Claim a folder for a server that can be reached at `address`.

        Raises:
            FolderInUse: Another server has it; or its file system knows no locks.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._told = folder / _TOLD
        self._lock = FileLock(folder / _LOCK, timeout=0, thread_local=False)  # whoever claims, anybody may release
        try:
            self._lock.acquire()
        except Timeout as error:
            raise FolderInUse(
                f"the data folder {folder} is in use by the server {_holder(self._told)}; open that one, stop it, or "
                "name another folder with --data"
            ) from error
        except (NotImplementedError, OSError) as error:
            raise FolderInUse(
                f"the data folder {folder} cannot be locked ({error}); name another with --data"
            ) from error
        self._told.write_text(json.dumps({"pid": os.getpid(), "address": address}), "utf-8")

    def release(self) -> None:
        """Leave the folder to others; what is released already stays so."""
        if self._lock.is_locked:
            self._told.unlink(missing_ok=True)
            self._lock.release()


def _holder(told: Path) -> str:
    """Return what is known of the server that holds a folder: it may just have come, or gone."""
    try:
        found = documents.json_value(files.read(told, _MOST), "the server's note")
    except ZooError:
        return "that has just been started"
    stated = found if isinstance(found, dict) else {}
    address, pid = stated.get("address"), stated.get("pid")
    where = f"at {address}" if isinstance(address, str) and address else "without a page"
    return f"{where} (process {pid})" if isinstance(pid, int) else where
