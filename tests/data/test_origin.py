import dataclasses
import hashlib
import http.server
import io
import shutil
import tarfile
import threading
import zipfile

import pytest
from helpers.recordings import write_dvs128gesture

from spikformer.cli import main
from spikformer.data import DATASETS, origin
from spikformer.data.origin import Archive, fetch, unpack
from spikformer.errors import DataError

CONTENT = bytes(range(256)) * 3000


class Server(http.server.BaseHTTPRequestHandler):
    """Serves files, from the middle when asked, and can break off."""

    files: dict[str, bytes] = {}  # noqa: RUF012 one server at a time
    breaks_after: int | None = None
    knows_ranges = True
    asked: list[str | None] = []  # noqa: RUF012

    def do_GET(self):
        content = self.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        Server.asked.append(wanted)
        start = int(wanted[len("bytes=") : -1]) if wanted and self.knows_ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) if self.breaks_after is None else start + self.breaks_after
        self.wfile.write(content[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name, value in {
        "files": {},
        "breaks_after": None,
        "knows_ranges": True,
        "asked": [],
    }.items():
        monkeypatch.setattr(Server, name, value)
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    serving.server_close()
    thread.join()


def published(server, name="a.bin", content=CONTENT):
    Server.files[f"/{name}"] = content
    return Archive(name, f"{server}/{name}", hashlib.md5(content).hexdigest())


def quiet(_there, _total):
    pass


def test_a_file_is_fetched_once_and_its_progress_told(server, tmp_path):
    told = []
    archive = published(server)
    for _ in range(2):
        path = fetch(archive, tmp_path / "new", lambda *said: told.append(said))
        assert path.read_bytes() == CONTENT
    assert Server.asked == [None]
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_download_that_broke_off_goes_on_where_it_stopped(server, tmp_path):
    archive = published(server)
    Server.breaks_after = 300_000
    for _ in range(2):
        with pytest.raises(DataError, match=r"broke off after \d+ .*run it again to go on"):
            fetch(archive, tmp_path, quiet)
        assert not (tmp_path / "a.bin").exists()
    there = (tmp_path / "a.bin.part").stat().st_size
    assert there == 600_000
    Server.breaks_after = None
    assert fetch(archive, tmp_path, quiet).read_bytes() == CONTENT
    assert Server.asked[-1] == f"bytes={there}-"
    assert not (tmp_path / "a.bin.part").exists()


def test_a_server_without_ranges_is_asked_for_all(server, tmp_path):
    Server.knows_ranges = False
    (tmp_path / "a.bin.part").write_bytes(b"half")
    assert fetch(published(server), tmp_path, quiet).read_bytes() == CONTENT


def test_a_part_that_lacks_nothing_is_taken(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    assert fetch(published(server), tmp_path, quiet).read_bytes() == CONTENT


def test_what_was_not_published_is_not_kept(server, tmp_path):
    archive = Archive("a.bin", published(server).url, "0" * 32)
    with pytest.raises(DataError, match=r"a\.bin has MD5 .*, not 0{32}: it is not kept"):
        fetch(archive, tmp_path, quiet)
    assert list(tmp_path.iterdir()) == []


def test_another_file_of_that_name_is_left_alone(server, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"a\.bin has MD5 .*: remove it, to fetch it anew"):
        fetch(published(server), tmp_path, quiet)
    assert (tmp_path / "a.bin").read_bytes() == b"mine"


def test_a_missing_file_and_a_missing_server_are_said(server, tmp_path):
    with pytest.raises(DataError, match="answers 404"):
        fetch(Archive("x", f"{server}/x", ""), tmp_path, quiet)
    with pytest.raises(DataError, match="broke off after 0 bytes"):
        fetch(Archive("x", "http://127.0.0.1:9/x", ""), tmp_path, quiet)


def packed(kind, names):
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            for name in names:
                archive.writestr(name, name)
    else:
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = len(name)
                archive.addfile(info, io.BytesIO(name.encode()))
    return out.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_archives_appear_whole_and_replace_what_was_there(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(packed(kind, ["cat/1", "cat/2"]))
    (tmp_path / "out" / "cat").mkdir(parents=True)
    (tmp_path / "out" / "cat" / "old").touch()
    unpack(path, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == ["1", "2", "cat"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_damaged_archive_leaves_nothing(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(packed(kind, ["cat/1", "cat/2"])[:-30])
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_archive_cannot_write_beside_its_folder(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(packed("tar.gz", ["../evil"]))
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "evil").exists()


def test_the_command_fetches_unpacks_and_says_what_there_is(server, tmp_path, monkeypatch, capsys):
    names = {k: [f"{k}/cifar10_{k}_{n}.aedat" for n in (0, 1)] for k in ("a", "b")}
    archives = [published(server, f"{k}.zip", packed("zip", found)) for k, found in names.items()]
    its = origin.Origin("home", "terms", tuple(archives), "cifar10dvs")
    cifar = dataclasses.replace(DATASETS["cifar10dvs"], origin=its)
    monkeypatch.setitem(DATASETS, "cifar10dvs", cifar)
    monkeypatch.setattr("spikformer.data.cifar10dvs.CLASSES", ("a", "b"))
    monkeypatch.setattr("spikformer.data.cifar10dvs.PER_CLASS", 2)
    command = ["data", "download", "cifar10dvs", "--root", str(tmp_path)]

    second = Server.files.pop("/b.zip")
    assert main(command) == 2
    assert "answers 404" in capsys.readouterr().err
    Server.files["/b.zip"] = second
    assert main(command) == 0
    assert "4 recordings" in capsys.readouterr().out
    assert Server.asked == [None] * 2  # each was fetched once, though the first attempt ended
    assert not list((tmp_path / "cifar10dvs").glob("*.zip"))
    assert main(command) == 0
    assert "cifar10dvs is there: 4 recordings" in capsys.readouterr().out
    assert len(Server.asked) == 2


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_in_the_way_is_replaced_and_a_damaged_archive_replaces_nothing(tmp_path, kind):
    away = tmp_path / "away"
    away.mkdir()
    (away / "mine").write_text("kept")
    there = tmp_path / "there"
    there.mkdir()
    (there / "a").write_text("old") if kind == "file" else (there / "a").symlink_to(away)
    good = packed("zip", ["a/x"])
    (tmp_path / "bad.zip").write_bytes(damaged(good))
    with pytest.raises(DataError, match=r"bad\.zip cannot be unpacked"):
        unpack(tmp_path / "bad.zip", there)
    assert (there / "a").exists()
    assert not (there / "a" / "x").exists()
    (tmp_path / "good.zip").write_bytes(good)
    unpack(tmp_path / "good.zip", there)
    assert (there / "a" / "x").is_file()
    assert [entry.name for entry in there.iterdir()] == ["a"]
    assert (away / "mine").read_text() == "kept"


def damaged(archive):
    """A zip whose first compressed bytes are not what they were."""
    place = 30 + int.from_bytes(archive[26:28], "little")
    return (
        archive[:place] + bytes(b ^ 0xFF for b in archive[place : place + 4]) + archive[place + 4 :]
    )


def test_every_data_set_says_where_it_comes_from_and_under_which_terms():
    for source in DATASETS.values():
        assert source.origin.home.startswith("https://")
        assert source.origin.terms
        for archive in source.origin.archives:
            assert archive.url is None or archive.url.startswith("https://")
            assert len(archive.md5) == 32


def test_what_cannot_be_fetched_names_its_page(capsys, tmp_path):
    assert main(["data", "download", "imagenet", "--root", str(tmp_path)]) == 2
    assert "cannot be fetched from here: see https://image-net.org" in capsys.readouterr().err


def test_what_wants_a_browser_is_checked_and_unpacked_when_it_is_there(
    capsys, tmp_path, monkeypatch
):
    command = ["data", "download", "dvs128gesture", "--root", str(tmp_path)]
    assert main(command) == 2
    said = capsys.readouterr()
    assert "research.ibm.com" in said.out
    assert f"DvsGesture.tar.gz wants a browser: put it into '{tmp_path}'" in said.err
    write_dvs128gesture(tmp_path)
    with tarfile.open(tmp_path / "DvsGesture.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "DvsGesture", "DvsGesture")
    shutil.rmtree(tmp_path / "DvsGesture")
    assert main(command) == 2
    assert "has MD5" in capsys.readouterr().err
    gesture = DATASETS["dvs128gesture"]
    md5 = hashlib.md5((tmp_path / "DvsGesture.tar.gz").read_bytes()).hexdigest()
    mine = Archive("DvsGesture.tar.gz", None, md5)
    its = dataclasses.replace(gesture.origin, archives=(mine,))
    monkeypatch.setitem(DATASETS, "dvs128gesture", dataclasses.replace(gesture, origin=its))
    assert main(command) == 0
    assert "4 recordings, 33 + 11 samples" in capsys.readouterr().out
    assert (tmp_path / "DvsGesture.tar.gz").is_file()  # it is the user's


def test_damaged_files_are_named_one_by_one(tmp_path, capsys):
    from helpers.recordings import nmnist, random_events

    for part in ("Train", "Test"):
        for label in range(10):
            folder = tmp_path / "nmnist" / part / str(label)
            folder.mkdir(parents=True)
            content = nmnist(random_events(5, 34, 1000))
            (folder / "0.bin").write_bytes(content[: -1 if label == 3 else None])
    assert main(["data", "verify", "nmnist", "--root", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out.count("byte 20: 4 of an event's 5 bytes") == 2
    assert "2 of 20 files of nmnist are damaged" in said.err
