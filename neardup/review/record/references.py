"""The photo that a person chose to stand for its group, remembered by content in a file that only grows."""

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path


class References:
    """The chosen photos of an output folder, a line of JSON each, in `review/references.jsonl`."""

    def __init__(self, out: Path) -> None:
        """Read what was chosen so far.

        Args:
            out: the output folder.
        """
        self._file = out / "review" / "references.jsonl"

    def choose(self, photo: str, others: list[str], who: str) -> None:
        """Record that a photo represents its group; the record is on disk when this returns.

        Args:
            photo: SHA-256 of the chosen photo.
            others: SHA-256 of the other photos of its group, which it is preferred to.
            who: the person.
        """
        time = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"photo": photo, "others": others, "who": who, "time": time}, ensure_ascii=True) + "\n"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, b"\n" * self._cut() + line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)

    def _cut(self) -> bool:
        """Whether the file ends within a line, because its writer was killed."""
        data = self._file.read_bytes()
        return bool(data) and not data.endswith(b"\n")

    def among(self, photos: list[str]) -> str | None:
        """The photo that was chosen last among those of a group, if any was."""
        return next((photo for photo in reversed(self.chosen()) if photo in photos), None)

    def chosen(self) -> list[str]:
        """SHA-256 of each photo that was ever chosen, the last choice last."""
        photos = []
        for line in self._file.read_text(encoding="utf-8").splitlines() if self._file.is_file() else ():
            with suppress(ValueError, KeyError, TypeError):  # a line that a kill cut short
                photos.append(json.loads(line)["photo"])
        return photos
