import numpy as np
import pytest
import torch
from toys import close

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("found", "expected", "near"),
    [
        (3.0, 3.0 + 1e-10, True),
        (3.0, 3.1, False),
        ([1.0, 1e6], [1.0, 1e6 + 1e-4], True),
        ([1.0, 2.0], [1.0, 2.0 + 1e-6], False),
        ([1.0, 2.0], [[1.0, 2.0]], False),
        ([1.0, 1.0], 1.0, False),
        ([INFINITE], [INFINITE], True),
        ([INFINITE], [-INFINITE], False),
        ([1e30], [INFINITE], False),
        ([NAN], [1.0], False),
        ([NAN], [NAN], False),
        ([], [], True),
    ],
)
def test_close(found, expected, near):
    for given in (np.array(found), torch.tensor(found, dtype=torch.float64).numpy()):
        assert (given == close(expected)) is near
        assert (given == close(torch.tensor(expected, dtype=torch.float64))) is near
        assert (given != close(expected)) is not near


def test_close_says_what_is_far():
    expected = close([[1.0, 2.0], [3.0, 4.0]])
    assert np.array([[1.0, 2.0], [3.5, 4.0]]) != expected
    assert "1 are far, first 3.5 at (1, 0) from 3.0" in repr(expected)
