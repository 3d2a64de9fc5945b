"""A program that has done its work is not failed by its libraries' threads; one that has not is."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

import readers
from readers import Lake

HERE = Path(__file__).resolve().parent
ABORTS_AT_EXIT = "import atexit, os, sys; atexit.register(os.abort); "


class Leaving(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        write_deltalake(f"{self.folder}/lake/things", pa.table({"n": [1, 2]}))

    def reader(self, names, before=""):
        request = json.dumps({"reader": "deltalake", "lake": Lake(f"{self.folder}/lake"), "names": names, "folder": str(self.folder)})
        program = f"{ABORTS_AT_EXIT}{before}import readers; readers.main(sys.argv[1])"
        return subprocess.run([sys.executable, "-c", program, request], cwd=HERE, capture_output=True, text=True)

    def test_a_reader_whose_answers_are_written_ends_well_whatever_threads_do_at_exit(self):
        done = self.reader(["things"])
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(readers.kept("deltalake", self.folder)["things"].num_rows, 2)

    def test_a_reader_that_ends_before_its_answers_are_written_fails(self):
        self.assertNotEqual(self.reader(["things", "no_such"]).returncode, 0)
        aborts = "import pyarrow.feather; pyarrow.feather.write_feather = lambda *_, **__: os.abort(); "
        self.assertNotEqual(self.reader(["things"], aborts).returncode, 0)

    def test_what_was_said_is_said_and_the_exit_code_is_the_tests(self):
        said = subprocess.run([sys.executable, "-c", f"{ABORTS_AT_EXIT}import leaving; print('said'); leaving.leave(3)"], cwd=HERE, capture_output=True)
        self.assertEqual((said.returncode, said.stdout), (3, b"said\n"))
        for name, code in (("test_right", 0), ("test_wrong", 1)):
            (self.folder / f"{name}.py").write_text(
                f"import atexit, os, unittest\natexit.register(os.abort)\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual({code}, 0)\n")
            done = subprocess.run([sys.executable, HERE / "leaving.py", name], cwd=self.folder, env={"PYTHONPATH": str(self.folder)}, capture_output=True)
            self.assertEqual(done.returncode, code, done.stderr)


if __name__ == "__main__":
    unittest.main()
