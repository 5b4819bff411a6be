"""State files between C++ and Python, both ways.

    state_files_test.py numpy|torch PROGRAM FOLDER

PROGRAM is state_files.cpp. `numpy` is for .npy and needs NumPy; `torch` is for safetensors and needs PyTorch and Python's
safetensors, too. Exits with 77 where these are missing.
"""

import pathlib
import subprocess
import sys

try:
    import numpy
    if sys.argv[1] == "torch":
        import torch
        from safetensors.torch import load_file, save_file
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)


def check_numpy(program, folder):
    """Arrays that Python's and C++'s side know: 0 to 23 in [2, 3, 4]."""
    for name in ("float32", "float64", "float16", "int64", "uint8"):
        expected = numpy.arange(24).reshape(2, 3, 4).astype(name)
        for order in ("rows", "columns"):
            array = numpy.load(folder / f"ours_{name}_{order}.npy")
            assert array.dtype == name and (array == expected).all(), (name, order)
            assert array.flags["C_CONTIGUOUS" if order == "rows" else "F_CONTIGUOUS"], (name, order)
        for order in "CF":
            big_endian = order == "F" and name != "uint8"  # each order of bytes with one order of axes
            swapped = expected.astype(expected.dtype.newbyteorder(">")) if big_endian else expected
            numpy.save(folder / f"numpy_{name}_{order}.npy", numpy.asarray(swapped, order=order))
    subprocess.run([program, "check_arrays", folder], check=True)


def check_torch(program, folder):
    """Layers load each other's state, and agree on the outputs."""
    tolerances = {"float32": 1e-6, "float64": 1e-14, "float16": 1e-3, "bfloat16": 8e-3}
    for name, tolerance in tolerances.items():
        dtype = getattr(torch, name)
        state = load_file(folder / f"ours_{name}.safetensors")
        assert state["x"].dtype == dtype and state["bn.num_batches_tracked"] == 5
        bn = torch.nn.BatchNorm1d(4).double().eval()
        bn.load_state_dict({key[3:]: value for key, value in state.items() if key.startswith("bn.")}, strict=True)
        y = bn(state["x"].double())
        error = ((y - state["y"].double()).abs().max() / y.abs().max()).item()
        assert error < tolerance, (name, error)

    torch.manual_seed(1)
    for name in tolerances:
        dtype = getattr(torch, name)
        bn = torch.nn.BatchNorm1d(4).double()
        with torch.no_grad():
            bn.weight.uniform_(0.5, 2)
            bn.bias.normal_()
            bn.running_mean.normal_()
            bn.running_var.uniform_(0.5, 2)
            bn.num_batches_tracked.fill_(9)
            rounded = bn.to(dtype).state_dict()
            x = torch.randn(8, 4, dtype=torch.float64).to(dtype)
            y = bn.double().eval()(x.double())
        arrays = {"bn." + key: value for key, value in rounded.items()}
        save_file({**arrays, "x": x, "y": y}, folder / f"torch_{name}.safetensors")
    subprocess.run([program, "check_layers", folder], check=True)


def main():
    what, program, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([program, "write", folder], check=True)
    check_numpy(program, folder) if what == "numpy" else check_torch(program, folder)
    print("agreed")


if __name__ == "__main__":
    main()
