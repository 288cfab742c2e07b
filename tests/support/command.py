# SPDX-License-Identifier: MIT
"""What tests that start the binary share: where it is, the tiny models, a folder of their own that is HOME."""
import os
import tempfile
import unittest

BIN = os.environ.get("FATHOM_BIN", "")
TINY = os.path.join(os.environ.get("FATHOM_SOURCE_DIR", "."), "tests/data/tiny/")
NO_END = ["-l", "287-inf"]  # 287 is the tiny models' end of turn


class Command(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tmp = folder.name
        self.env = dict(os.environ, HOME=self.tmp)

    def path(self, name, content=None):
        path = os.path.join(self.tmp, name)
        if content is not None:
            with open(path, "wb") as f:
                f.write(content.encode() if isinstance(content, str) else content)
        return path
