import pytest

from tests.test_registry import lift

WRONG = {
    "distortion=foo": "distortion is 'foo'; choose one of identity, rigid",
    "distortion.rate=3": "distortion.rate",
    "distortion.learning_rate=many": "'many'",
    "experiment=foo": "experiment/foo",
    "fit.stps=3": "fit.stps",
    "fit.steps=-4": "fit.steps is -4; choose a value of at least 1",
    "reach.beyond=x": "reach.beyond is 'x'; choose one of limit, warn, ignore",
    "prior.jump=x": "prior.jump",
    "trainer.devces=2": "devces",
    "image=no_such.jpg": "no_such.jpg",
    "--no-such-flag": "no-such-flag",
}


@pytest.mark.parametrize("argument", WRONG)
def test_a_mistake_ends_with_one_readable_line(tmp_path, argument):
    image = [] if argument.startswith("image") else ["image=coffee"]
    done = lift("run", *image, argument, cwd=tmp_path)
    assert done.returncode == 2
    assert WRONG[argument] in done.stderr.strip().split("\n")[-1]
    assert "Traceback" not in done.stderr and (argument.startswith("--") or done.stderr.count("\n") == 1)
    assert not list(tmp_path.iterdir()), "a mistake leaves nothing behind"


def test_the_image_must_be_given(tmp_path):
    done = lift("run", cwd=tmp_path)
    assert done.returncode == 2 and "give image=PATH" in done.stderr


def test_hydra_shows_the_composed_configuration(tmp_path):
    done = lift("run", "image=x.jpg", "distortion=identity", "--cfg", "job", cwd=tmp_path)
    assert done.returncode == 0 and "image: x.jpg" in done.stdout and "name: identity" in done.stdout
    assert not list(tmp_path.iterdir())


def test_help_lists_slots_and_settings(tmp_path):
    done = lift("run", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "distortion: identity, rigid" in done.stdout and "max_unseen" in done.stdout
    assert lift("--help").returncode == 0


@pytest.mark.parametrize("arguments", [("show", "prior", "nothing"), ("show", "nothing", "x"), ("list", "nothing"), ("export", "nowhere", "x.spz"),
                                       ("render", "nowhere", "--to", "x.mp4"), ("view", "nowhere")])  # fmt: skip
def test_other_commands_name_what_is_wrong(tmp_path, arguments):
    done = lift(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and ("nothing" in done.stderr or "nowhere" in done.stderr)
