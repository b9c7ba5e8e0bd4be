"""The most memory that another process held at a time, as Linux counts it; unknown on other systems."""

from contextlib import suppress
from pathlib import Path

MB = 2**20
BEGIN_ANEW = "5"  # written to clear_refs: the peak becomes what is held now, see proc(5)


class PeakMemory:
    """Counts from when it is made. It tells what a student may want to know, and limits nothing."""

    def __init__(self, pid: int) -> None:
        self.folder = Path(f"/proc/{pid}")
        self.before: int | None = None
        with suppress(OSError):
            (self.folder / "clear_refs").write_text(BEGIN_ANEW)
            self.before = self._bytes("VmRSS")

    @property
    def megabytes(self) -> float | None:
        """By how much the peak lies above what was held at the beginning; None if that is not known."""
        if self.before is None:
            return None
        peak = self._bytes("VmHWM")
        return None if peak is None else max(0, peak - self.before) / MB

    def _bytes(self, name: str) -> int | None:
        """One of the figures in the process's status; None if it has ended, or there are none."""
        with suppress(OSError):
            lines = (self.folder / "status").read_text(encoding="utf-8", errors="replace").splitlines()
            found = [int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")]
            return found[0] if found else None
        return None
