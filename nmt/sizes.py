"""Sizes of which there are few: what is prepared for one shape, a product's code or a CUDA graph, is then met again."""

_DIGITS = 4


def rounded_up(size: int, digits: int = _DIGITS) -> int:
    """Return the least number from ``size`` (at least 1) on that has at most so many significant binary digits."""
    step = 1 << max((size - 1).bit_length() - digits, 0)
    return -(-size // step) * step


def rounded_down(size: int) -> int:
    """Return the largest number up to ``size`` (at least 1) that has at most four significant binary digits."""
    step = 1 << max(size.bit_length() - _DIGITS, 0)
    return size // step * step
