"""Finds the images, and makes IDX files of a folder with comma-separated digits."""

import pathlib

import numpy

FASHION_MNIST = pathlib.Path("/usr/share/datasets/fashion-mnist")  # where Debian's package has it
NAMES = {"fashion-mnist": "Fashion-MNIST", "mnist": "MNIST", "optdigits": "optdigits"}


class DataError(Exception):
    """A file of images that is missing or malformed."""


def find(folder, work):
    """The folder with IDX files for the program that trains; None where it is to draw digits itself."""
    if folder is None:
        return FASHION_MNIST if FASHION_MNIST.is_dir() else None
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder with images, found none")
    if (folder / "train.csv").exists() or (folder / "test.csv").exists():
        return _converted(folder, work / folder.resolve().name)
    return folder


def _converted(folder, target):
    """Writes IDX files of train.csv and test.csv: the pixels of a square image and then its class on each line."""
    target.mkdir(parents=True, exist_ok=True)
    largest = None
    for name, part in (("train", "train"), ("test", "t10k")):
        path = folder / f"{name}.csv"
        try:
            table = numpy.loadtxt(path, delimiter=",", dtype=numpy.int64, ndmin=2)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {error}") from error
        side = int(round((table.shape[1] - 1) ** 0.5))
        if table.shape[0] == 0 or side < 1 or side * side + 1 != table.shape[1]:
            raise DataError(
                f"{path}: expected lines of a square number of pixels and a class, got {table.shape[1]} numbers"
            )
        if table.min() < 0 or table.max() > 255:
            raise DataError(f"{path}: expected numbers from 0 to 255, got {table.min()} to {table.max()}")
        if largest is None:
            largest = max(1, table[:, :-1].max())
        pixels = numpy.minimum(255, numpy.rint(table[:, :-1] * (255 / largest))).astype(numpy.uint8)
        count = table.shape[0]
        _write(target / f"{part}-images-idx3-ubyte", 2051, (count, side, side), pixels)
        _write(target / f"{part}-labels-idx1-ubyte", 2049, (count,), table[:, -1].astype(numpy.uint8))
    return target


def _write(path, magic, shape, values):
    header = numpy.array([magic, *shape], dtype=">u4").tobytes()
    path.write_bytes(header + values.tobytes())


def display_name(name):
    return NAMES.get(name, name)
