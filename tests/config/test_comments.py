import textwrap

import pytest

from lift.config.comments import describe_file, find_comment, setting_comments

TEXT = textwrap.dedent("""\
    # @package _global_
    # Summary.
    # More about it.
    # And more.
    defaults:
      # Above an entry.
      - override /prior: svd
      - override /renderer: gsplat  # beside an entry
      - /fit: fast # with one space
      - _self_

    image: "a # b.jpg"  # beside a quoted text
    plain: a#b
    name: 'x'
    # Above a group,
    # on two lines.
    fit:
      steps: 20  # beside a number
      loss:  # beside a group
        ssim: 0
      # Above a list.
      scales: [0.5,
               1]  # beside its end
      until: []

    # Separated by an empty line.

    seed: 3
      # Of another indentation.
    device: cpu
    """)


def test_the_comment_at_the_beginning_describes_a_file() -> None:
    assert describe_file(TEXT) == "Summary.\nMore about it.\nAnd more."
    assert describe_file("a: 1\n# later\n") == ""
    assert describe_file("# Only a comment.") == "Only a comment."


@pytest.mark.parametrize(
    ("key", "comment"),
    [
        ("prior", "Above an entry."),
        ("renderer", "beside an entry"),
        ("image", "beside a quoted text"),
        ("plain", ""),
        ("name", ""),
        ("fit.steps", "beside a number"),
        ("fit.loss.ssim", "beside a group"),
        ("fit.scales", "Above a list. beside its end"),
        ("fit.until", "Above a group, on two lines."),
        ("fit", "Above a group, on two lines."),
        ("seed", ""),
        ("device", ""),
        ("defaults", ""),
    ],
)
def test_comments_belong_to_the_setting_beside_or_below(key: str, comment: str) -> None:
    assert find_comment(setting_comments(TEXT), key) == comment


def test_a_file_without_settings_has_no_comments() -> None:
    assert setting_comments("# Nothing.\n") == {} == setting_comments("")
