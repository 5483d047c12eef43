import subprocess
import sys
import textwrap

import pytest
from hydra.core.config_store import ConfigStore

from lift.config import compose_eval, compose_run, store_schemas
from lift.registry import ComponentError


def test_a_run_is_composed_from_overrides() -> None:
    config = compose_run(["image=coffee", "experiment=gpu", "fit.steps=5", "prior=synthetic"])
    assert (config.image, config.fit.steps, config.prior.name) == ("coffee", 5, "synthetic")
    assert config.renderer.name == "gsplat" and config.fit.batch_size == 4


def test_an_evaluation_is_composed_from_overrides() -> None:
    config = compose_eval(["dataset=ray_cast", "protocol.max_targets=3"])
    assert (config.dataset.name, config.protocol.max_targets) == ("ray_cast", 3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "image is not set"),
        (["image=coffee", "fit.steps=0"], "fit.steps is 0; choose 1 to 10000000"),
        (["image=coffee", "fit.stps=1"], "did you mean fit.steps"),
        (["image=coffee", "edges.width=21"], "edges.width is 21; choose 0 to 20"),
        (["image=coffee", "prior=none"], "prior is 'none'; choose one of"),
    ],
)
def test_a_wrong_override_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ComponentError, match=message):
        compose_run(overrides)


def test_only_schemas_of_chosen_components_are_made() -> None:
    script = textwrap.dedent("""
        from hydra.core.config_store import ConfigNode, ConfigStore
        from lift.config import compose_run
        compose_run(["image=coffee", "prior=viewcrafter"])
        made = {
            name
            for name, schema in dict.items(ConfigStore.instance().repo["prior"])
            if isinstance(schema, ConfigNode)
        }
        assert made == {"viewcrafter.yaml"}, made
    """)
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_pickled_store_has_all_schemas() -> None:
    cloudpickle = pytest.importorskip("cloudpickle", reason="a launcher of Hydra needs it")
    store_schemas()
    schemas = ConfigStore.instance().repo["depth"]
    copy = cloudpickle.loads(cloudpickle.dumps(schemas))
    assert type(copy) is dict and set(copy) == set(schemas)
    assert copy["lite.yaml"].node.size == 320


def test_a_run_is_composed_without_torch() -> None:
    script = textwrap.dedent("""
        import sys
        from lift.config import compose_run
        compose_run(["image=coffee"])
        assert not {"torch", "numpy"} & set(sys.modules)
    """)
    subprocess.run([sys.executable, "-c", script], check=True)
