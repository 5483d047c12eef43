"""Expected times add up, and unknown ones are named."""

from pathlib import Path

from lift.runtime.expected_times import ExpectedTimes, format_seconds

CACHE = Path("outputs/cache")


def test_the_median_of_earlier_times_is_expected():
    times = ExpectedTimes({"clip": [2.0, 9.0, 3.0]}, {}, CACHE)
    assert times.describe("clip", 4) == "about 12 s, as it took 3.0 s each before"
    assert times.total() == "about 12 s, besides the delivery"


def test_processes_share_the_clips():
    times = ExpectedTimes({"clip": [10.0]}, {}, CACHE)
    assert times.describe("clip", 5, processes=2) == "about 30 s, as it took 10 s each before"


def test_found_stages_take_no_time():
    times = ExpectedTimes({"clip": [10.0]}, {"clip": 3, "fit": 1}, CACHE)
    assert times.describe("fit") == "found in the cache"
    part = "3 of 4 found in the cache; about 10 s, as it took 10 s before for the others"
    assert times.describe("clip", 4) == part
    assert times.total() == "about 10 s, besides the delivery"


def test_the_total_is_a_lower_bound_if_a_time_is_unknown():
    times = ExpectedTimes({"depth": [3.5]}, {}, CACHE)
    for stage in ("depth", "clip", "reconstruct", "fit"):
        times.describe(stage)
    unknown = "at least 3.5 s; time unknown for clip, reconstruct and fit: "
    assert times.total().startswith(f"{unknown}{CACHE} has none that this machine made")


def test_a_total_of_nothing_known_is_unknown():
    times = ExpectedTimes({}, {}, CACHE)
    assert times.describe("fit") == "time unknown"
    assert times.total().startswith("time unknown: ")


def test_long_times_have_large_units():
    values = (0.04, 9.9, 50.0, 600.0, 36000.0)
    assert [format_seconds(value) for value in values] == [
        "0.0 s",
        "9.9 s",
        "50 s",
        "10 minutes",
        "10.0 hours",
    ]
