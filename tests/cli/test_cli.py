from pathlib import Path

import pytest

from tests.helpers.commands import here, lift

WRONG = {
    "distortion=foo": "distortion is 'foo'; choose one of appearance, blur, composed",
    "distortion.rate=3": "distortion.rate",
    "fit.learning_rate.means=many": "'many'",
    "experiment=foo": "experiment is 'foo'; choose one of demo, fast, gpu",
    "fit.stps=3": "fit.stps is not a setting; did you mean fit.steps? fit has steps, canonical_",
    "depth.sise=3": "depth.sise is not a setting of 'lite'; did you mean depth.size? it has size,",
    "depth.path=x": "depth.path is not a setting of 'lite'; it is one of depth=known, onnx; it has",
    "fit.steps=-4": "fit.steps is -4; choose 1 to 10000000",
    "motion_limit.on_exceed=x": "motion_limit.on_exceed is 'x'; choose one of limit, warn, ignore",
    "prior.edge_threshold=x": "prior.edge_threshold",
    "trainer.devces=2": "devces",
    "trainer.devices=0": "trainer.devices is 0; choose a number, auto, or a list of GPUs such as",
    "image=no_such.jpg": "no_such.jpg",
    "seed=99999999999999": "seed",
    "fit.learning_rate.means=-1": "fit.learning_rate.means is -1; choose 0 to 100",
    "fit.robust.frames=nan": "fit.robust.frames is nan; choose 0 to 1000000",
    "distortion.prune_after=2": "distortion.prune_after is 2; choose 0 to 1",
    "distortion.parts=[rigid,foo]": "in distortion.parts: distortion is 'foo'; choose one of",
    "export.formats=[foo]": "export.formats has 'foo'; choose among ply, compressed.ply, splat",
    "fit.test_every=1": "fit.test_every is 1, which leaves no generated frame",
    "fit.coarse_to_fine.scales=[0.2,0.5]": "fit.coarse_to_fine has scales [0.2, 0.5] and until",
    "fit.initial_gaussians=70000": "fit.initial_gaussians is 70000, more than fit.max_gaussians",
    "fit.loss=3": "fit.loss is 3; it is a group; set one of its settings, such as fit.loss.l1",
    "experment=gpu": "experment is not a setting; did you mean experiment?",
    "--experiment=gpu": "--experiment is no option; write settings without dashes: experiment=gpu",
    "prior=wrap": "(did you mean warp?)",
    "setup.cfg": "did you mean image=setup.cfg?",
    "--no-such-flag": "no-such-flag",
}


@pytest.mark.parametrize("argument", WRONG)
def test_user_error_ends_with_one_readable_line(tmp_path, argument):
    image = [] if argument.startswith("image") else ["image=coffee"]
    where = Path(__file__).parents[2] if argument == "setup.cfg" else tmp_path
    done = here("run", *image, argument, f"output={tmp_path / 'out'}", cwd=where)
    assert done.returncode == 2
    assert WRONG[argument] in done.stderr.strip().split("\n")[-1]
    assert "Traceback" not in done.stderr and (
        argument.startswith("--") or done.stderr.count("\n") == 1
    )
    assert not list(tmp_path.iterdir()), "an error writes no files"


def test_the_image_must_be_given(tmp_path):
    done = lift("run", cwd=tmp_path)
    assert done.returncode == 2 and "give image=PATH" in done.stderr


def test_hydra_shows_the_composed_configuration(tmp_path):
    done = here("run", "image=x.jpg", "distortion=identity", "--cfg", "job", cwd=tmp_path)
    assert (
        done.returncode == 0 and "image: x.jpg" in done.stdout and "name: identity" in done.stdout
    )
    assert not list(tmp_path.iterdir())


def test_help_lists_slots_and_settings(tmp_path):
    done = lift("run", "--help", cwd=tmp_path)
    assert (
        done.returncode == 0
        and "distortion: appearance, blur, composed" in done.stdout
        and "max_unseen" in done.stdout
    )
    assert lift("--help").returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "prior", "nothing"),
        ("show", "nothing", "x"),
        ("list", "nothing"),
        ("export", "nowhere", "x.spz"),
        ("render", "nowhere", "--to", "x.mp4"),
        ("view", "nowhere"),
    ],
)
def test_other_commands_name_what_is_wrong(tmp_path, arguments):
    done = here(*arguments, cwd=tmp_path)
    assert (
        done.returncode == 2
        and done.stderr.count("\n") == 1
        and ("nothing" in done.stderr or "nowhere" in done.stderr)
    )
