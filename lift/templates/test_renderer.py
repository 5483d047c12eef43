"""Tests of the renderer `new_renderer`.

Keep `test_it_keeps_the_contract`. The other tests are for the code of the template: replace them
together with it.
"""

import pytest

from lift.contracts import contract_checks
from lift.contracts.samples import CAMERA, sample_scene
from lift.registry import catalogue
from lift.renderers.reference import Reference
from lift.templates.renderer import NewRenderer


@pytest.mark.parametrize("check", contract_checks("renderer"), ids=str)
def test_it_keeps_the_contract(check, tmp_path):
    """It keeps the promises of its slot. `lift check` runs the same checks."""
    result = check.run("new_renderer", tmp_path)
    if result.status == "skip":
        pytest.skip(result.reason)
    assert result.status == "pass", result.reason


def test_it_draws_like_reference_by_default():
    """No Gaussian is left out."""
    expected = Reference()(sample_scene(), CAMERA)
    assert NewRenderer()(sample_scene(), CAMERA).rgb.equal(expected.rgb)


def test_faint_gaussians_are_not_drawn():
    """All Gaussians of the sample have an opacity of 0.6."""
    render = NewRenderer(min_opacity=0.7)(sample_scene(), CAMERA)
    assert not render.alpha.any()


def test_a_wrong_opacity_is_refused():
    """The message names the setting and its range."""
    with pytest.raises(ValueError, match=r"renderer.min_opacity is 2.0; choose 0 to 0.99"):
        catalogue()("renderer", "new_renderer").check({"min_opacity": 2.0})
