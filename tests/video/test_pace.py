"""How fast a bare stream is shown: what the data set tells, taken for what was meant (PS3.3 C.7.6.5)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.video.pace import Pace, snapped, told

NTSC = Fraction(30000, 1001)


def dataset(
    frame_time: Any = None, vector: Any = None, cine: Any = None, display: Any = None
) -> dict[str, Any]:
    tags = {"00181063": frame_time, "00181065": vector, "00180040": cine, "00082144": display}
    return {
        tag: {"vr": "DS", "Value": value if isinstance(value, list) else [value]}
        for tag, value in tags.items()
        if value is not None
    }


@pytest.mark.parametrize(
    ("attributes", "rate"),
    [
        (dataset(40), Fraction(25)),
        (dataset(33.33), Fraction(30)),
        (dataset(33.3333333), Fraction(30)),
        (dataset(33.37), NTSC),
        (dataset(33.366667), NTSC),
        (dataset(16.683), Fraction(60000, 1001)),
        (dataset(41.708), Fraction(24000, 1001)),
        (dataset(80), Fraction(25, 2)),
        (dataset(40, cine=50), Fraction(25)),
        (dataset(0, cine=50), Fraction(50)),
        (dataset(-3, [0, 20, 20], 50), Fraction(50)),
        (dataset(None, [0, 33, 33, 34]), Fraction(30)),
        (dataset(None, [0], 15), Fraction(15)),
        (dataset(cine=30, display=25), Fraction(30)),
        (dataset(display=25), Fraction(25)),
        (dataset("40", cine=10), Fraction(10)),
        (dataset(float("inf"), cine=10), Fraction(10)),
        (dataset(1e9), Fraction(25)),
        ({}, Fraction(25)),
        ({"00181063": {"vr": "DS"}}, Fraction(25)),
    ],
    ids=str,
)
def test_the_rate_that_was_meant(attributes: dict[str, Any], rate: Fraction) -> None:
    """Frame Time, Frame Time Vector, Cine Rate, Recommended Display Frame Rate: the first that can be."""
    ticks_per_s, times = told(attributes).times(5, None)
    assert Fraction(ticks_per_s, int(times[1])) == rate
    assert list(np.diff(times)) == [times[1]] * 5
    assert times[0] == 0


def test_a_vector_is_followed_where_it_counts_the_pictures() -> None:
    attributes = dataset(None, [0, 20, 60, 20])
    ticks_per_s, times = told(attributes).times(4, None)
    assert [Fraction(int(time), ticks_per_s) for time in times] == [
        Fraction(ms, 1000) for ms in (0, 20, 80, 100, 120)
    ]
    assert told(attributes).times(5, NTSC)[1][1] * NTSC == told(attributes).times(5, NTSC)[0]


def test_the_stream_is_asked_last() -> None:
    assert Pace().times(2, NTSC)[0] == 30000
    assert Fraction(Pace(Fraction(10)).times(2, NTSC)[0], 1000) == 10


@given(st.floats(1, 60_000))
def test_any_frame_time_is_kept_to_a_thousandth(frame_time: float) -> None:
    ticks_per_s, times = told(dataset(frame_time)).times(3, None)
    assert 1 <= ticks_per_s < 1 << 31
    assert 1000 * times[1] / ticks_per_s == pytest.approx(frame_time, rel=0.01)
    assert snapped(Fraction(1000) / Fraction(frame_time)) > 0
