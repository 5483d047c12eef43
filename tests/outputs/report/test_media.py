"""Film and scene are put into the report unless they are too large for a mail."""

import base64
import gzip

from lift.outputs.report.media import embed_film, embed_scene, script_hash, script_hashes


def test_a_small_film_is_embedded(tmp_path):
    (tmp_path / "video.mp4").write_bytes(b"film")
    film = embed_film(tmp_path)
    assert film is not None and film.embedded
    assert film.source == "data:video/mp4;base64," + base64.b64encode(b"film").decode()


def test_a_large_film_is_linked(tmp_path):
    (tmp_path / "video.mp4").write_bytes(b"film")
    film = embed_film(tmp_path, max_bytes=3)
    assert film is not None and (film.source, film.size) == ("video.mp4", 4)


def test_a_run_without_film_has_none(tmp_path):
    assert embed_film(tmp_path) is None


def test_the_scene_is_compressed():
    scene = embed_scene("<p>é</p>" * 1000)
    assert gzip.decompress(base64.b64decode(scene.data)).decode() == "<p>é</p>" * 1000
    assert scene.size == len(scene.data) < 1000


def test_a_large_scene_is_left_out_and_its_size_told():
    scene = embed_scene("<p>é</p>" * 1000, max_bytes=10)
    assert scene.data == "" and scene.size > 10


def test_line_ends_do_not_change_the_hash_of_a_script():
    assert script_hash("a\r\nb") == script_hash("a\nb") != script_hash("a b")


def test_packed_scripts_are_hashed_unpacked_and_data_is_not():
    packed = base64.b64encode(gzip.compress(b"run()")).decode()
    page = (
        f'<script id="viewer" type="application/gzip">{packed}</script>'
        '<script type="application/octet-stream">AAAA</script><script>start()</script>'
    )
    assert script_hashes(page) == (script_hash("run()"), script_hash("start()"))
