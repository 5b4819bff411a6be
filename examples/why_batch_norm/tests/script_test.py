"""Runs the example as a user would, and looks at its exit status, at what it prints and at what it writes.

python3 script_test.py PROGRAM EMPTY_FOLDER
"""

import gzip
import json
import pathlib
import shutil
import subprocess
import sys
import unittest
import xml.etree.ElementTree

PROGRAM = pathlib.Path(sys.argv[1]).resolve()
WORK = pathlib.Path(sys.argv[2]).resolve()
SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "why_batch_norm.py"


def script(*arguments, output="results"):
    return subprocess.run(
        [sys.executable, SCRIPT, "--program", PROGRAM, "--output", WORK / output, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def program(job, *arguments):
    return subprocess.run([PROGRAM, *arguments], input=job, capture_output=True, text=True, check=False)


class WhyBatchNorm(unittest.TestCase):
    maxDiff = None

    def test_a_quick_run_makes_the_table_the_results_and_every_picture(self):
        done = script("--quick", "--drawn", output="whole")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"drawn digits: [\d,]+ images of 16 x 16 pixels")
        self.assertRegex(done.stdout, r"best test accuracy: [\d.]+ % with batch normalization, [\d.]+ % without\n$")
        found = json.loads((WORK / "whole" / "results.json").read_text(encoding="utf-8"))
        self.assertEqual([panel["id"][0] for panel in found["panels"]], list("1234567"))
        for panel in found["panels"]:
            self.assertIn(panel["held"], ("held", "partly", "not held"))
            self.assertRegex(done.stdout, rf"(?m)^{panel['id'][0]}  {panel['held'].upper()} ")
        for ground in ("light", "dark"):
            pictures = sorted((WORK / "whole").glob(f"*_{ground}.svg"))
            self.assertEqual(len(pictures), 9, "one a panel, the grid of the third, the overview")
            for picture in pictures:
                self.assertTrue(xml.etree.ElementTree.parse(picture).getroot().tag.endswith("svg"))

    def test_a_run_that_was_stopped_goes_on_where_it_was(self):
        arguments = ("--quick", "--drawn", "--panels", "4", "--no-pictures")
        first = script(*arguments, output="resumed")
        self.assertEqual(first.returncode, 0, first.stderr)
        runs = WORK / "resumed" / "runs.jsonl"
        results = json.loads((WORK / "resumed" / "results.json").read_text(encoding="utf-8"))
        lines = runs.read_text(encoding="utf-8").splitlines(keepends=True)
        # As if it had been stopped while it wrote the last of all but three runs.
        runs.write_text("".join(lines[:3]) + lines[3][:100], encoding="utf-8")
        second = script(*arguments, output="resumed")
        self.assertEqual(second.returncode, 0, second.stderr)
        self.assertIn(f"3 of {len(lines)} runs were finished before", second.stdout)
        self.assertIn(f"run {len(lines) - 3} of {len(lines) - 3}", second.stderr)
        again = runs.read_text(encoding="utf-8").splitlines(keepends=True)
        self.assertEqual(again[:3], lines[:3])
        self.assertEqual(len(again), len(lines))
        same = json.loads((WORK / "resumed" / "results.json").read_text(encoding="utf-8"))
        self.assertEqual(same["panels"], results["panels"])
        third = script(*arguments, output="resumed")
        self.assertNotIn("training", third.stderr)

    def test_folders_and_files_that_cannot_be_used_are_errors_that_name_them(self):
        def error(folder):
            done = script("--quick", "--data", folder)
            self.assertEqual(done.returncode, 1)
            self.assertNotIn("Traceback", done.stderr)
            return done.stderr.replace(str(WORK), "WORK").strip()

        broken = WORK / "broken"
        broken.mkdir()
        self.assertEqual(
            error(WORK / "absent"), "why_batch_norm: WORK/absent: expected a folder with images, found none"
        )
        self.assertRegex(error(broken), "^why_batch_norm: WORK/broken: expected a file train-images-idx3-ubyte or ")
        (broken / "train-labels-idx1-ubyte").write_bytes(b"")
        whole = gzip.compress(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7]))
        (broken / "train-images-idx3-ubyte.gz").write_bytes(whole[:-3])
        self.assertRegex(
            error(broken), "^why_batch_norm: WORK/broken/train-images-idx3-ubyte.gz: cannot be read to its end: "
        )

        malformed = WORK / "malformed"
        malformed.mkdir()
        (malformed / "train.csv").write_text("0,1,2,3,1\n4,5,x,7,0\n", encoding="utf-8")
        self.assertRegex(error(malformed), "^why_batch_norm: WORK/malformed/train.csv: could not convert string 'x'")
        (malformed / "train.csv").write_text("0,1,2\n", encoding="utf-8")
        self.assertRegex(
            error(malformed), "^why_batch_norm: WORK/malformed/train.csv: expected lines of a square number"
        )

    def test_comma_separated_digits_are_read_as_images(self):
        folder = WORK / "digits"
        folder.mkdir()
        lines = "".join(f"{i % 2 * 16},0,{16 - i % 2 * 16},3,{i % 2}\n" for i in range(200))
        for name in ("train", "test"):
            (folder / f"{name}.csv").write_text(lines, encoding="utf-8")
        done = script("--quick", "--panels", "2", "--no-pictures", "--data", folder, output="commas")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(
            "digits: 180 images of 2 x 2 pixels to train on, 20 to choose learning rates, 200 to test", done.stdout
        )
        self.assertIn("best test accuracy: 100.00 % with batch normalization", done.stdout)

    def test_the_program_tells_what_is_wrong_with_a_run(self):
        done = program('{"steps": 0}\n{"step": 1}\n')
        self.assertEqual(done.returncode, 1)
        self.assertEqual(len(done.stdout.splitlines()), 2, "the data and the first result")
        self.assertEqual(
            done.stderr,
            'why_batch_norm: standard input:2: settings: expected one of the settings\' names, got "step"\n',
        )
        self.assertRegex(program("{").stderr, "^why_batch_norm: standard input:1: .*parse error")
        self.assertEqual(program("", "--jobs", "absent").stderr, "why_batch_norm: absent: cannot open this file\n")
        self.assertNotEqual(program("", "--dta", "here").returncode, 0)


if __name__ == "__main__":
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    unittest.main(argv=[sys.argv[0]], verbosity=2)
