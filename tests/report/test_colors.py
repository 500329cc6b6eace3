import pytest

from nmt.report.colors import (
    DARK,
    DARK_RAMP,
    DARK_SERIES,
    LEVELS,
    LIGHT,
    LIGHT_RAMP,
    LIGHT_SERIES,
    luminance,
    ramp_color,
)


def contrast(first, second):
    """WCAG's contrast ratio, 1 to 21."""
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_luminance_of_known_colours():
    assert luminance("#ffffff") == pytest.approx(1)
    assert luminance("#000000") == 0
    assert luminance("#777777") == pytest.approx(0.1845, abs=1e-4)


def test_ramp_interpolates_and_clips():
    ramp = ("#000000", "#ff0000", "#ff00ff")
    assert [ramp_color(ramp, w) for w in (-1, 0, 0.25, 0.5, 1, 2)] == [
        "#000000", "#000000", "#800000", "#ff0000", "#ff00ff", "#ff00ff"
    ]  # fmt: skip


@pytest.mark.parametrize(("ramp", "sign"), [(LIGHT_RAMP, -1), (DARK_RAMP, 1)])
def test_ramp_is_ordered_by_lightness_alone(ramp, sign):
    values = [luminance(ramp_color(ramp, level / LEVELS)) * sign for level in range(LEVELS + 1)]
    assert all(low < high for low, high in zip(values, values[1:], strict=False))


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_text_and_gold_stand_out(theme):
    assert contrast(theme["text"], theme["surface"]) >= 7
    assert contrast(theme["muted"], theme["surface"]) >= 4.5
    assert contrast(theme["gold"], theme["surface"]) >= 3


def test_both_modes_have_the_same_names():
    assert LIGHT.keys() == DARK.keys()
    assert len(LIGHT_SERIES) == len(DARK_SERIES) == len(set(LIGHT_SERIES))
