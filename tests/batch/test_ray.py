"""`lift batch --engine ray`: lost nodes, lost workers, too little memory, too much time."""

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image
from skimage import data

pytest.importorskip("ray", reason="Ray is not installed")

from lift.batch import jobs, ray_engine
from lift.batch.records import read_summary
from lift.runtime.distributed import ProcessInfo, process_info
from lift.runtime.kept_networks import keep_networks
from tests.helpers.commands import here, lift, start_python
from tests.helpers.quick_scenes import hold_node, make_quick_scene, read_log
from tests.helpers.settings import MINIMAL

pytestmark = pytest.mark.slow

ON_ONE_CORE = ("--engine=ray", "--engine-option=num_cpus=1")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one node with two cores. The driver runs beside it."""
    from ray.cluster_utils import Cluster

    before = signal.getsignal(signal.SIGTERM)
    started = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
    )
    yield started
    started.shutdown()
    signal.signal(signal.SIGTERM, before)  # Ray's own would stay for the tests of other files


@pytest.fixture
def batch(cluster, tmp_path, monkeypatch) -> Callable:
    """Run `lift batch --engine ray` in the cluster, with quick scenes, in a folder."""
    monkeypatch.setattr(jobs, "make_scene", make_quick_scene)
    address = f"--engine-option=address={cluster.address}"
    return lambda *arguments: here(
        "batch", *ON_ONE_CORE, address, *arguments, "output=out", cwd=tmp_path
    )


def add_pictures(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        if "broken" in name:
            (folder / name).write_bytes(b"no picture")
        else:
            pixels = data.coffee()[number : number + 96, :128]
            Image.fromarray(pixels).save(folder / name)


def kill_node_at_work(cluster: Any, node: Any, output: Path) -> None:
    """Kill a node when it has made a scene and works on another one."""
    wait_for_event("made", node, output)
    hold_node(output, node.node_id)
    wait_for_event("held", node, output)
    cluster.remove_node(node, allow_graceful=False)


def wait_for_event(event: str, node: Any, output: Path) -> None:
    """Wait until the log has an event of a node."""
    while not any(parts[0] == event and parts[2] == node.node_id for parts in read_log(output)):
        time.sleep(0.02)


def test_a_lost_node_and_lost_workers_cost_no_picture(cluster, batch, tmp_path):
    good = [f"{number:02}.png" for number in range(35)]
    bad = ["broken-1.png", "broken-2.png", "broken-3.png"]
    add_pictures(tmp_path / "photos", *good, *bad, "killed.png", "full.png")
    node = cluster.add_node(num_cpus=1)
    output = tmp_path / "out"
    killer = threading.Thread(target=kill_node_at_work, args=(cluster, node, output), daemon=True)
    killer.start()
    done = batch("photos")
    killer.join(1)
    assert not killer.is_alive(), "the node was killed in the middle"
    assert done.returncode == jobs.FAILED, done.stderr
    assert len(done.stdout.split()) == 37
    assert "lift: 3 of 40 pictures failed:" in done.stderr
    records = {record.title: record for record in read_summary(output / "summary.jsonl")}
    assert len(records) == 40
    failed = {title for title, record in records.items() if record.state == "failed"}
    assert {f"{title}.png" for title in failed} == {*bad}
    assert {records[title].cause for title in failed} == {"permanent"}
    events = Counter((event, title) for event, title, _ in read_log(output))
    made = {title: count for (event, title), count in events.items() if event == "made"}
    assert made == dict.fromkeys(records.keys() - failed, 1)
    lost = {title for title, record in records.items() if record.attempts > 1}
    repeated = {title for (_, title), count in events.items() if count > 1}
    assert {"killed", "full"} <= repeated <= lost
    assert len(lost) == 2 + 1, "the node had one core"
    assert records["killed"].attempts == records["full"].attempts == 2

    again = batch(*(f"photos/{name}" for name in (*good, "killed.png", "full.png")))
    assert again.returncode == 0, again.stderr
    assert Counter((event, title) for event, title, _ in read_log(output)) == events


def test_a_try_that_takes_too_long_is_ended(batch, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "GRACE", 1.0)
    add_pictures(tmp_path / "photos", "hangs.png", "stuck.png", "good.png")
    done = batch("photos", "--timeout=5", "--retries=0", "--json")
    assert done.returncode == jobs.TRY_AGAIN, done.stderr
    records = {r.title: r for r in read_summary(tmp_path / "out" / "summary.jsonl")}
    assert records.pop("good").state == "finished"
    for record in records.values():
        assert record.error == "it took longer than 5 s" and record.cause == "transient"
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()[:-3]]
    assert Counter(events) == {"started": 3, "done": 3}, done.stderr


@pytest.mark.parametrize(
    "option, expected",
    [
        ("num_cpus=64", "no node of the Ray cluster has that; the largest values are num_cpus=2,"),
        ("num_gpus=1", "no node of the Ray cluster has that"),
        ("num_cpus=0", "choose a number above 0"),
        ("num_cpus=1.5", "choose a whole number above 1"),
        ("memory=8GB", "choose a number of at least 0"),
        ("cpus=1", "choose one of address, num_cpus, num_gpus, memory, autoscale"),
        ("autoscale=1", "choose true or false"),
        ("address=ray://127.0.0.1:1", "choose HOST:PORT"),
        ("address=127.0.0.1", "cannot use the Ray cluster at 127.0.0.1"),
    ],
)
def test_a_wrong_option_is_an_error_of_one_line(batch, tmp_path, option, expected):
    add_pictures(tmp_path / "photos", "a.png")
    done = batch("photos", f"--engine-option={option}")
    assert done.returncode == 2 and expected in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1


def test_cores_of_a_task_are_those_that_a_node_has():
    choose = ray_engine._choose_needs
    assert choose({}, [{"CPU": 1.0}, {"CPU": 1.0}], False)["num_cpus"] == 1
    assert choose({}, [{"CPU": 64.0}], False) == {"num_gpus": 0, "num_cpus": 4}
    nodes = [{"CPU": 64.0}, {"CPU": 16.0, "GPU": 8.0}]
    assert choose({}, nodes, False) == {"num_gpus": 1, "num_cpus": 2}
    assert choose({"num_gpus": 0.0}, nodes, False) == {"num_gpus": 0, "num_cpus": 4}
    assert choose({"num_cpus": 64.0}, [], True) == {"num_cpus": 64, "num_gpus": 0}


def test_on_nodes_that_srun_has_started_each_scene_is_made_alone(monkeypatch):
    for name, value in {"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NUMBA_NUM_THREADS", os.environ.get("NUMBA_NUM_THREADS", "1"))
    assert process_info().world_size == 2
    try:
        assert ray_engine._run_in_worker(process_info, (), None, 1.0) == ProcessInfo()
    finally:
        keep_networks(False)


def test_a_package_that_a_node_lacks_is_no_transient_failure():
    from ray.exceptions import RaySystemError

    done, future = Future(), Future()
    done.set_exception(RaySystemError("No module named 'lift' traceback: Traceback (most recent"))
    ray_engine._forward(future, None, done)
    error = future.exception()
    assert isinstance(error, ImportError) and "No module named 'lift'; install" in str(error)


def test_without_ray_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    add_pictures(tmp_path / "photos", "a.png")
    done = here("batch", "photos", "--engine=ray", cwd=tmp_path)
    assert done.returncode == 2 and "pip install 'lift[ray]'" in done.stderr, done.stderr


HANGING = """
import sys
from lift.batch import jobs
from lift.cli import main
from tests.helpers.quick_scenes import make_quick_scene
jobs.make_scene = make_quick_scene
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "number, own", [(signal.SIGTERM, True), (signal.SIGINT, False)], ids=["own", "joined"]
)
def test_a_stopped_command_leaves_no_process(cluster, tmp_path, number, own):
    add_pictures(tmp_path / "photos", "hangs.png")
    root = str(Path(__file__).parents[2])
    address = "local" if own else cluster.address
    program = start_python(
        *("-c", HANGING, "batch", "photos", *ON_ONE_CORE, "output=out"),
        f"--engine-option=address={address}",
        cwd=tmp_path,
        PYTHONPATH=os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))),
    )
    output = tmp_path / "out"
    end = time.monotonic() + 60
    while not (pids := [title for event, title, _ in read_log(output) if event == "pid"]):
        assert time.monotonic() < end
        time.sleep(0.1)
    left = [psutil.Process(int(pid)) for pid in pids]
    left += psutil.Process(program.process.pid).children(recursive=True)
    assert own == any("raylet" in process.name() for process in left)
    program.send_signal(number)
    done = program.finish()
    assert done.returncode == 128 + number, done.stderr
    assert "run the same command again" in done.stderr, done.stderr
    _, alive = psutil.wait_procs(left, timeout=15)
    assert not alive
    assert not (output / "hangs" / "quick").exists() and not (output / "summary.jsonl").exists()


def test_real_scenes_are_made_with_plugins_and_found_again(tmp_path, monkeypatch):
    add_pictures(tmp_path / "photos", "a.png", "broken.png")
    plugin = "import os\nwith open('pids', 'a') as stream:\n    stream.write(f'{os.getpid()} ')\n"
    (tmp_path / "plugin.py").write_text(plugin)
    command = ("batch", "photos", *MINIMAL, *ON_ONE_CORE, "--processes=1", "output=out")
    done = lift(*command, cwd=tmp_path, LIFT_PLUGINS="plugin.py")
    assert done.returncode == jobs.FAILED, done.stderr
    (run,) = done.stdout.split()
    assert (tmp_path / run / "report.html").is_file()
    assert "a: fit" in (tmp_path / "out" / ".batch" / "a.log").read_text()
    assert len(done.stderr.splitlines()) == 2 + 3 + 2, done.stderr
    assert len(set((tmp_path / "pids").read_text().split())) >= 2, "driver and worker"
    (tmp_path / "photos" / "broken.png").unlink()
    monkeypatch.setitem(sys.modules, "ray", None)  # an import of Ray would fail
    monkeypatch.setenv("LIFT_PLUGINS", "plugin.py")
    again = here(*command, cwd=tmp_path)
    assert again.returncode == 0 and again.stdout == done.stdout, again.stderr
