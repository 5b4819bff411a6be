#!/usr/bin/env python3
"""Prints how far the results of batchnorm and of PyTorch are from the exact ones, on the same bits of data.

    python3 tests/exactness/pytorch_accuracy.py build/test/tests/exactness/accuracy_table

Needs PyTorch (Debian: python3-torch). The program given writes its data sets to a temporary directory, this script runs
torch.nn.BatchNorm2d on them, in both memory formats and on one thread, and the program compares both libraries' results
with 100 decimal digits.

list.txt has a line for each data set: type, number, N, C, H, W, epsilon, momentum, training or inference. TYPE NUMBER.data
holds x and dy, in N,C,H,W order, and weight, bias, running_mean and running_var, all of that type, in the machine's byte
order. The results, y, dx, running_mean, running_var, weight_grad and bias_grad, go to TYPE NUMBER.contiguous and
TYPE NUMBER.channels_last.
"""

import pathlib
import subprocess
import sys
import tempfile

import torch


def tensors(data, sizes):
    """Cuts a flat tensor into pieces of the sizes."""
    return [piece.clone() for piece in torch.split(data, sizes)]


def write(path, values):
    with open(path, "wb") as file:
        for value in values:
            flat = value.detach().contiguous().reshape(-1)
            file.write(bytes(flat.untyped_storage()) if hasattr(flat, "untyped_storage") else flat.numpy().tobytes())


def run(directory, line):
    name, number, *extents, epsilon, momentum, mode = line.split()
    n, c, h, w = map(int, extents)
    dtype = {"float": torch.float32, "double": torch.float64}[name]
    path = directory / f"{name}{number}"
    data = torch.frombuffer(bytearray(path.with_suffix(".data").read_bytes()), dtype=dtype)
    size = n * c * h * w
    x, dy, weight, bias, mean, var = tensors(data, [size, size, c, c, c, c])
    for memory_format in (torch.contiguous_format, torch.channels_last):
        layer = torch.nn.BatchNorm2d(c, eps=float(epsilon), momentum=float(momentum), dtype=dtype)
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(var)
        layer.train(mode == "training")
        given = x.reshape(n, c, h, w).contiguous(memory_format=memory_format).requires_grad_()
        y = layer(given)
        y.backward(dy.reshape(n, c, h, w).contiguous(memory_format=memory_format))
        suffix = ".contiguous" if memory_format == torch.contiguous_format else ".channels_last"
        write(
            path.with_suffix(suffix),
            [y, given.grad, layer.running_mean, layer.running_var, layer.weight.grad, layer.bias.grad],
        )


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    program = sys.argv[1]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([program, "--dump", directory], check=True)
        for line in (pathlib.Path(directory) / "list.txt").read_text().splitlines():
            run(pathlib.Path(directory), line)
        print(
            f"Largest errors: this library's in any layout, those of PyTorch {torch.__version__} in the worse of its two "
            "memory formats.\n",
            flush=True,
        )
        subprocess.run([program, "--compare", directory], check=True)


if __name__ == "__main__":
    main()
