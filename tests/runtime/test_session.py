"""Keys of stages in the cache."""

from hydra import compose, initialize_config_module


def test_clip_key_depends_on_content_not_on_cost(tmp_path, monkeypatch):
    from lift.config import store_schemas
    from lift.runtime.session import Session

    store_schemas()
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()

    def key(*settings: str) -> str:
        with initialize_config_module("lift.configs", version_base=None):
            return Session(
                compose("lift", ["image=room", f"output={tmp_path}", "prior=vace", *settings])
            ).key("clip", slots=("prior",))

    plain = key()
    assert (
        plain
        == key("prior.offload=model", "prior.batch_size=4", "prior.compile=true")
        != key("prior.num_inference_steps=9")
    )
    assert plain != key(f"prior.prompt='{'a room with a table, ' * 40}'"), (
        "a text that is too long for a file's name"
    )
    before = key("prior.model='~/model'")
    (tmp_path / "model" / "weights").write_text("other")
    assert key("prior.model='~/model'") != before, "what is in the folder"


def test_an_edited_part_of_a_distortion_makes_the_fit_anew(tmp_path, monkeypatch):
    from lift.config import store_schemas
    from lift.registry import catalogue
    from lift.runtime.session import Session

    store_schemas()
    with initialize_config_module("lift.configs", version_base="1.3"):
        session = Session(
            compose("lift", ["image=room", f"output={tmp_path}", "distortion.parts=[blur]"])
        )
    keys = [session.key("fit", number, slots=("distortion",)) for number in (1, 2)]
    (tmp_path / "blur.py").write_text("'''Another.'''")
    monkeypatch.setattr(catalogue()("distortion", "blur"), "source", tmp_path / "blur.py")
    keys += [session.key("fit", number, slots=("distortion",)) for number in (1, 2)]
    assert len(set(keys)) == 4
