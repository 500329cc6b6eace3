"""`set_threads`, in a process of its own: threads that have started keep what they started with."""

import subprocess
import sys

import pytest

PROGRAM = """
import numpy, torch
from nmt.assemble import set_threads

set_threads({threads})
numpy.finfo(numpy.float32), numpy.finfo(numpy.float64)
tiny = torch.full((1 << 20,), 1e-40)
print(torch.get_num_threads(), (tiny * 1.0).count_nonzero().item(), (torch.tensor([3e-38]) * 1.0).item())
"""


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_all_threads_take_what_is_next_to_nothing_for_nothing(threads):
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(threads=threads)], capture_output=True, text=True, check=True
    )
    assert "subnormal" not in found.stderr, "as NumPy before 2.4 would say"
    number, left, whole = found.stdout.split()
    assert (int(number), int(left)) == (threads, 0)
    assert float(whole) == pytest.approx(3e-38, rel=1e-5)
