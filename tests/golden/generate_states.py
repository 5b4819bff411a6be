"""Writes the files in tests/golden/states: what PyTorch, safetensors and NumPy themselves write.

    python3 tests/golden/generate_states.py

Needs PyTorch, safetensors and NumPy (Debian from forky on: python3-torch, python3-safetensors). Network.safetensors has the
network's state under "net.", an input, and the output in inference, computed in float64.
"""

import pathlib

import numpy
import torch
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).parent / "states"


class Network(torch.nn.Module):
    """Every kind of map that a layer can be folded into, before it and after it."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 4, 3, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(4)
        self.depthwise = torch.nn.Conv2d(4, 8, 2, groups=4)
        self.bn2 = torch.nn.BatchNorm2d(8, eps=1e-3)
        self.transposed = torch.nn.ConvTranspose2d(8, 6, 2, groups=2)
        self.bn3 = torch.nn.BatchNorm2d(6, affine=False)
        self.grouped = torch.nn.Conv2d(6, 4, 2, groups=2)  # bn3 can be folded into this one, too
        self.bn4 = torch.nn.BatchNorm2d(4)
        self.bn5 = torch.nn.BatchNorm2d(4)  # this one into the next alone
        self.back = torch.nn.ConvTranspose2d(4, 4, 1, groups=2)
        self.fc = torch.nn.Linear(4 * 2 * 2, 5)
        self.bn6 = torch.nn.BatchNorm1d(5)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv(x)))
        x = torch.nn.functional.leaky_relu(self.bn2(self.depthwise(x)), 0.125)
        x = self.bn3(self.transposed(x))
        x = torch.relu(self.bn4(self.grouped(x)))
        x = self.back(self.bn5(x))
        return self.bn6(self.fc(x.flatten(1)))


def shaken(module):
    """The module with statistics and parameters that are neither 0 nor 1."""
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.dtype == torch.int64:
            value.fill_(7)
        elif "var" in name:
            value.data.uniform_(0.5, 2)
        elif "bn" in name and "weight" in name or name == "weight":
            value.data.uniform_(0.5, 1.5)
        else:
            value.data.normal_().mul_(0.5)
    return module


def main():
    torch.manual_seed(1)
    FOLDER.mkdir(exist_ok=True)
    for dtype, name in (
        (torch.float16, "float16"),
        (torch.bfloat16, "bfloat16"),
        (torch.float32, "float32"),
        (torch.float64, "float64"),
    ):
        bn = shaken(torch.nn.BatchNorm2d(3).double()).to(dtype)
        values = {"net.bn1." + key: value for key, value in bn.state_dict().items()}
        exact = {"exact." + key: value.double().clone() for key, value in bn.state_dict().items() if value.is_floating_point()}
        save_file({**values, **exact}, FOLDER / f"{name}.safetensors")
    save_file(torch.nn.BatchNorm1d(3, affine=False).state_dict(), FOLDER / "no_affine.safetensors")

    network = shaken(Network().double()).eval()
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    state = {"net." + key: value for key, value in network.state_dict().items()}
    with torch.no_grad():
        save_file({**state, "input": x, "output": network(x)}, FOLDER / "network.safetensors")

    array = numpy.arange(24).reshape(2, 3, 4) / 8 - 1
    for dtype in ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8", "<i4", ">i8", "|u1", "<u2", "|b1"):
        for order in "CF":
            name = dtype.replace("<", "little_").replace(">", "big_").replace("|", "")
            integers = dtype[1] in "iu"
            with open(FOLDER / f"{name}_{order}.npy", "wb") as file:
                values = numpy.arange(24).reshape(2, 3, 4) if integers else array > 0 if dtype == "|b1" else array
                numpy.save(file, numpy.asarray(values, dtype=dtype, order=order))
    for version in ((1, 0), (2, 0), (3, 0)):
        with open(FOLDER / f"version_{version[0]}.npy", "wb") as file:
            numpy.lib.format.write_array(file, numpy.arange(3, dtype="<f4"), version=version)
    numpy.save(FOLDER / "scalar.npy", numpy.int64(7))
    numpy.save(FOLDER / "empty.npy", numpy.zeros((0, 5), dtype="<f4"))


if __name__ == "__main__":
    main()
