"""Networks from the hub: a local stub of it answers."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from danet_lightning import load
from danet_lightning.data.drawing import draw_scene
from danet_lightning.errors import RequestError

TRUSTED = ["small_net"]
COMMIT = "0123456789" * 4


class Hub(BaseHTTPRequestHandler):
    """Serves the files of one folder as `me/net`, and notes what it was asked for."""

    folder: Path
    url: str
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        name = path.rpartition("/")[2]
        names = sorted(each.name for each in self.folder.iterdir())
        files = [{"rfilename": each} for each in names]
        listed = [
            {"type": "file", "path": each, "oid": COMMIT, "size": 1, "rfilename": each}
            for each in names
        ]
        if path.startswith("/api/models/me/net/tree"):
            self.answer(200, json.dumps(listed).encode())
        elif path.startswith("/api/models/me/net"):
            facts = {"id": "me/net", "sha": COMMIT, "siblings": files, "private": False}
            self.answer(200, json.dumps(facts).encode())
        elif path == f"/me/net/resolve/{COMMIT}/{name}" and name in names:
            self.answer(200, (self.folder / name).read_bytes())
        else:
            self.answer(404, b"{}")

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stub(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    class Own(Hub):
        folder = hub
        asked: list[str] = []  # noqa: RUF012

    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        from huggingface_hub import constants

        Own.url = url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield Own
        server.shutdown()


def test_a_network_is_fetched_bit_by_bit(stub: type[Hub], checkpoint: Path) -> None:
    ours = load(checkpoint, TRUSTED).net.state_dict()
    theirs = load("hf://me/net", TRUSTED).net.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    fetched = {line.rpartition("/")[2] for line in stub.asked if "/resolve/" in line}
    assert fetched == {"config.json", "model.safetensors"}


@pytest.mark.slow
def test_predict_takes_a_network_from_the_hub(stub: type[Hub], hub: Path, tmp_path: Path) -> None:
    """In a fresh interpreter: the address of the hub is read when its library is imported."""
    Image.fromarray(draw_scene(1, "test", 0, 40, 56)[0]).save(tmp_path / "a.png")
    done = subprocess.run(
        [
            sys.executable, "-m", "danet_lightning.predict", "ckpt_path=hf://me/net",
            "input=a.png", "output=out", "device=cpu", "trusted=[small_net]",
        ],
        cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"HF_ENDPOINT": stub.url, "HF_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = load(hub, TRUSTED).segment(np.array(Image.open(tmp_path / "a.png")))
    with Image.open(tmp_path / "out" / "a.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), expected)


@pytest.mark.parametrize("address", ["hf://me/other", "hf://", "hf://../../etc", "hf://a/b/c/d"])
def test_a_network_that_is_not_there_is_told(stub: type[Hub], address: str) -> None:
    with pytest.raises(RequestError, match=f"{address} cannot be fetched"):
        load(address)
