"""Names become files: the local cache's layout, the offline rules, and a hub on the loopback."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import pytest

from auricle.errors import CheckpointError, ModelNotFound
from auricle.hub import fetching as hub
from auricle.hub.cache import check

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "nvidia/parakeet-ctc-0.6b"
PULL = hub._pull


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network: whoever asks the hub fails the test."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(hub, "_pull", no_network)
    return tmp_path / "hub"


def put(cache: Path, repository: str, files: dict[str, bytes], *, ref: str = "main") -> Path:
    """A repository in the cache, laid out as huggingface_hub does; the snapshot's folder."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    for part in (folder / "blobs", folder / "refs", snapshot):
        part.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / ref).write_text(COMMIT)
    for name, content in files.items():
        large = name.endswith((".nemo", ".safetensors"))
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        blob = folder / "blobs" / (hashlib.sha256(content).hexdigest() if large else git)
        blob.write_bytes(content)
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def test_an_existing_path_is_itself(tmp_path: Path) -> None:
    file = tmp_path / "mine.nemo"
    file.write_bytes(b"")
    assert hub.resolve(file) == file
    assert hub.resolve(str(tmp_path)) == tmp_path


def test_a_cached_archive_is_used_without_the_network(cache: Path) -> None:
    snapshot = put(cache, REPOSITORY, {"parakeet-ctc-0.6b.nemo": b"x", "README.md": b"y"})
    assert hub.resolve(REPOSITORY) == snapshot / "parakeet-ctc-0.6b.nemo"
    assert hub.resolve("parakeet-ctc-0.6b") == snapshot / "parakeet-ctc-0.6b.nemo"
    assert hub.is_cached(REPOSITORY)


def test_an_archive_need_not_be_its_repository_s_namesake(cache: Path) -> None:
    snapshot = put(cache, "nvidia/stt_en_citrinet_1024_ls", {"stt_en_citrinet_1024.nemo": b"x"})
    assert hub.resolve("stt_en_citrinet_1024_ls") == snapshot / "stt_en_citrinet_1024.nemo"


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": b"{}", "model.safetensors": b"x", "tokenizer.json": b"{}"},
        {"config.json": b"{}", "model.bin": b"x", "vocabulary.json": b"[]"},
        {
            "config.json": b"{}",
            "model.safetensors.index.json": b'{"weight_map": {"a": "model-1.safetensors"}}',
            "model-1.safetensors": b"x",
        },
    ],
)
def test_a_cached_folder(cache: Path, files: dict[str, bytes]) -> None:
    snapshot = put(cache, "me/mine", files)
    assert hub.resolve("me/mine") == snapshot


def test_an_incomplete_copy_does_not_count(cache: Path) -> None:
    put(cache, "me/mine", {"config.json": b"{}", "tokenizer.json": b"{}"})
    assert not hub.is_cached("me/mine")
    index = b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    put(
        cache,
        "me/shards",
        {"config.json": b"{}", "model.safetensors.index.json": index, "model-1.safetensors": b"x"},
    )
    assert not hub.is_cached("me/shards")
    snapshot = put(cache, "me/linked", {"linked.nemo": b"x"})
    (snapshot / "linked.nemo").resolve().unlink()  # still being fetched: the link points nowhere
    assert not hub.is_cached("me/linked")


def test_revision(cache: Path) -> None:
    snapshot = put(cache, "me/mine", {"mine.nemo": b"x"}, ref="v1")
    assert hub.resolve("me/mine", revision="v1") == snapshot / "mine.nemo"
    assert hub.resolve("me/mine", revision=COMMIT) == snapshot / "mine.nemo"
    assert not hub.is_cached("me/mine")
    with pytest.raises(ModelNotFound, match="'v2' is not in the local cache"):
        hub.resolve("me/mine", revision="v2", local_only=True)


def test_offline_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ModelNotFound, match=r"was not asked; .*auricle models pull nvidia/parakeet"
    ):
        hub.resolve(REPOSITORY, local_only=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFound, match="HF_HUB_OFFLINE is set"):
        hub.resolve(REPOSITORY)
    with pytest.raises(ModelNotFound, match="HF_HUB_OFFLINE is set"):
        hub.pull(REPOSITORY)


LONG = "a" * 10_000


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", "''"),
        (" ", "' '"),
        ("a\udcffb", r"a\\udcffb"),
        ("org/na\udcffme", r"org/na\\udcffme"),
        ("x\ny/z", "x y/z"),
        ("nul\0/x", r"nul\\x00/x"),
        ("../gone", r"\.\./gone"),
        ("org/..", r"org/\.\."),
        ("..\\..\\gone", r"\.\.\\\.\.\\gone"),
        ("~nobody-of-that-name/model", "~nobody-of-that-name/model"),
        ("org/na--me", "org/na--me"),
        ("naïve/модель", "naïve/модель"),
        (LONG, r"a{93} \.\.\. a{93}"),
        (f"{LONG}/b", r"a{93} \.\.\. a{91}/b"),
    ],
)
def test_an_absurd_name_is_one_short_line(name: str, shown: str) -> None:
    for ask in (hub.resolve, hub.pull):
        with pytest.raises(ModelNotFound, match=f"^{shown} is neither a file") as caught:
            ask(name)
        assert type(caught.value) is ModelNotFound
        assert len(str(caught.value)) < 500
    assert not hub.is_cached(name)


@pytest.mark.parametrize("revision", [LONG, "a\udcffb", "../..", "x\ny"])
def test_an_absurd_revision_is_one_short_line(revision: str) -> None:
    with pytest.raises(ModelNotFound, match="is not in the local cache") as caught:
        hub.resolve(REPOSITORY, revision=revision, local_only=True)
    assert len(str(caught.value)) < 1000 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "index", [b"", b"[]", b"\xff", b'{"weight_map": 3}', b'{"weight_map": [[1]]}']
)
def test_a_damaged_index_of_shards_is_an_incomplete_copy(cache: Path, index: bytes) -> None:
    put(cache, "me/mine", {"config.json": b"{}", "model.safetensors.index.json": index})
    assert not hub.is_cached("me/mine")


def test_a_damaged_reference_is_no_copy(cache: Path) -> None:
    put(cache, "me/mine", {"mine.nemo": b"x"})
    (cache / "models--me--mine" / "refs" / "main").write_bytes(b"\xff\xfe")
    assert not hub.is_cached("me/mine")


def test_the_hub_library_s_own_warnings_do_not_stand_before_ours(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    theirs = logging.getLogger("huggingface_hub")

    def unreachable(*_: object) -> None:
        theirs.warning("thrown while requesting GET; retrying in 1 s")
        raise ConnectionError("no route")

    monkeypatch.setattr(hub, "_pull", unreachable)
    before = theirs.level
    with pytest.raises(ModelNotFound, match="could not be fetched: no route; check") as caught:
        hub.pull("me/mine")
    assert type(caught.value) is ModelNotFound
    assert theirs.level == before
    assert capfd.readouterr() == ("", "")


def test_offline_doubts_a_name_that_the_catalogue_does_not_know() -> None:
    with pytest.raises(ModelNotFound, match=r"did you mean nvidia/parakeet-tdt-0\.6b-v"):
        hub.resolve("nvidia/parakeet-tdt-0.6b-v9", local_only=True)


def test_pull_offline_gives_the_copy_that_is_here(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = put(cache, REPOSITORY, {"parakeet-ctc-0.6b.nemo": b"archive"})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    archive = snapshot / "parakeet-ctc-0.6b.nemo"
    assert hub.pull(REPOSITORY) == hub.Pulled(archive, "CC-BY-4.0", 7)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nvidia/stt_en_fastconformer_hybrid_small_pc", "never published; did you mean nvidia/stt"),
        ("parakeet-tdt-0.6b", "neither .* did you mean nvidia/parakeet-tdt-0.6b-v"),
        ("nvidia/canary-1b-v2", "attention encoder-decoder, which Auricle does not run"),
        ("QuartzNet15x5Base-En", "not on the hub; download .*stt_en_quartznet15x5"),
        ("no/such/place.nemo", "neither a file or folder here nor a known model"),
        ("gone.nemo", "neither a file or folder here"),
    ],
)
def test_names_that_cannot_be_resolved(name: str, message: str) -> None:
    with pytest.raises(ModelNotFound, match=message) as caught:
        hub.resolve(name)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)


def test_check_finds_a_damaged_file(cache: Path) -> None:
    files = {"config.json": b"{}", "model.safetensors": b"weights" * 1000}
    snapshot = put(cache, "me/mine", files)
    assert check(snapshot) == ["config.json", "model.safetensors"]
    (snapshot / "model.safetensors").resolve().write_bytes(b"weights" * 999 + b"wrights")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged.*pull again"):
        check(snapshot)


def test_check_passes_over_files_without_a_known_sum(tmp_path: Path) -> None:
    (tmp_path / "mine.nemo").write_bytes(b"x")
    assert check(tmp_path / "mine.nemo") == []


def test_a_full_disk_is_told_before_the_download(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"me/mine takes 5\.00 GB and 0\.00 GB are left") as caught:
        hub._check_room(5_000_000_000, "me/mine")
    assert caught.value.errno == errno.ENOSPC


class FakeHub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as a download needs."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/me/mine"):
            siblings = [
                {"rfilename": name, "size": len(content)} for name, content in self.files.items()
            ]
            card = {"license": "cc-by-4.0"}
            info = {"id": "me/mine", "sha": COMMIT, "siblings": siblings, "cardData": card}
            self._send(json.dumps(info).encode(), {"Content-Type": "application/json"})
        elif path.startswith("/me/mine/resolve/"):
            content = self.files[path.rpartition("/")[2]]
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            self._send(content, {"ETag": etag, "X-Repo-Commit": COMMIT})
        else:
            self._send(b"{}", {"X-Error-Code": "RepoNotFound"}, 404)

    def _send(self, content: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hub library talks to a server on the loopback."""
    FakeHub.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeHub) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        _point_at(f"http://127.0.0.1:{server.server_port}", monkeypatch)
        yield
        server.shutdown()


def _point_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = import_module("huggingface_hub.constants")
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(hub, "_pull", PULL)


def fetched() -> list[str]:
    """The names of the files that were fetched, in order."""
    paths = [line for line in FakeHub.asked if line.startswith("GET /me/")]
    return [path.rpartition("/")[2] for path in paths]


@pytest.mark.usefixtures("served")
def test_pull_fetches_just_the_model(capfd: pytest.CaptureFixture[str]) -> None:
    FakeHub.files = {"README.md": b"r", "mine.nemo": b"archive", "model.safetensors": b"weights"}
    pulled = hub.pull("me/mine")
    assert pulled.path.read_bytes() == b"archive"
    assert (pulled.licence, pulled.size) == ("cc-by-4.0", 7)
    assert fetched() == ["mine.nemo"]
    assert capfd.readouterr().err == ""  # no bar in a pipe
    FakeHub.asked.clear()
    assert hub.resolve("me/mine") == pulled.path
    assert FakeHub.asked == []


@pytest.mark.usefixtures("served")
def test_pull_takes_a_folder_s_weights_last() -> None:
    FakeHub.files = {
        "model.safetensors": b"weights",
        "config.json": b"{}",
        "tokenizer.json": b"{1}",
        "training.log": b"no",
        "pytorch_model.bin": b"no",
    }
    folder = hub.resolve("me/mine")
    assert {p.name for p in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert fetched()[-1] == "model.safetensors"


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("me/unknown", "the hub has no model me/unknown .*auricle models list"),
        ("nvidia/parakeet-tdt-0.6b-v9", "did you mean nvidia/parakeet-tdt-0.6b-v"),
    ],
)
def test_an_unknown_repository(name: str, message: str) -> None:
    with pytest.raises(ModelNotFound, match=message):
        hub.resolve(name)


@pytest.mark.usefixtures("served")
def test_a_repository_without_a_model() -> None:
    FakeHub.files = {"README.md": b"r"}
    with pytest.raises(CheckpointError, match=r"me/mine holds neither one \.nemo"):
        hub.resolve("me/mine")


def test_an_unreachable_hub_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    _point_at("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(ModelNotFound, match=r"could not be fetched: .*then try again") as caught:
        hub.resolve("me/mine")
    assert "\n" not in str(caught.value)


def test_an_unreachable_hub_leaves_the_copy_that_is_here(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = put(cache, REPOSITORY, {"parakeet-ctc-0.6b.nemo": b"archive"})
    _point_at("http://127.0.0.1:9", monkeypatch)
    archive = snapshot / "parakeet-ctc-0.6b.nemo"
    assert hub.pull(REPOSITORY) == hub.Pulled(archive, "CC-BY-4.0", 7)
    assert "the hub cannot be reached" in caplog.text


def test_the_model_that_comes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, unless there is something of that name."""
    monkeypatch.chdir(tmp_path)
    shipped = hub.resolve("digits", local_only=True)
    assert (shipped / "model.safetensors").stat().st_size < 4_000_000
    (tmp_path / "digits").mkdir()
    assert hub.resolve("digits") == Path("digits")
