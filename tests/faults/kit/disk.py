"""A file system that is small enough to be filled."""

import os
import shutil
import subprocess
import unittest

from kit import settings


class SmallDisk:
    """A file system of some MiB in memory. Only root may mount one."""

    def __init__(self, case, name, mebibytes):
        self.path = settings.WORK / name
        self.path.mkdir()
        self.filler = self.path / "filler"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "latchkey-small", self.path],
            stderr=subprocess.PIPE,
            text=True,
        )
        if mounted.returncode:
            # Where tests are run for others, one that was not run must not look like one that passed.
            if os.environ.get("CI") and os.geteuid() == 0:
                raise AssertionError(f"cannot mount a small file system: {mounted.stderr}")
            raise unittest.SkipTest(f"a full disk: cannot mount one ({mounted.stderr.strip()})")
        case.addCleanup(subprocess.run, ["umount", "--lazy", self.path], check=True)
        if settings.POSTGRES_USER:
            shutil.chown(self.path, settings.POSTGRES_USER)

    def fill(self):
        """Writes until there is no space left."""
        with self.filler.open("ab", buffering=0) as filler:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        filler.write(bytes(size))
                except OSError:
                    pass

    def free(self):
        """Makes space again."""
        self.filler.unlink()
