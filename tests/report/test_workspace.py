"""W&B as a dashboard: what a workspace says, that a server is told, and a sweep of W&B's own."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from danet_lightning.config.commands import TrainConfig
from danet_lightning.config.request import checked_request, conf_dir
from danet_lightning.config.spelling import understood
from danet_lightning.errors import RequestError
from danet_lightning.report import workspace as ours

# wandb-workspaces is written for pydantic 1 as well
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")

ANSWERS: dict[str, Any] = {  # by what a query asks for
    "upsertView": {"upsertView": {"view": {"id": "1", "name": "nw-abc-v"}, "inserted": True}},
    "viewer": {"viewer": {"id": "1", "entity": "me", "username": "me", "flags": "{}",
                          "teams": {"edges": []}}},
    "serverInfo": {"serverInfo": {"cliVersionInfo": {}, "latestLocalVersionInfo": None}},
}  # fmt: skip


class Stub(BaseHTTPRequestHandler):
    """As much of W&B's server as saving a workspace takes; it keeps what it is asked."""

    asked: list[dict[str, Any]]
    refuses = False

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(asked)
        if self.refuses and "upsertView" in asked["query"]:
            self._answer({"errors": [{"message": "permission denied"}]}, code=403)
            return
        found = [data for word, data in ANSWERS.items() if word in asked["query"]]
        self._answer({"data": (found or [{}])[0]})

    def _answer(self, content: Any, code: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Stub]]:
    """A server on this machine, and an account there."""
    handler = type("Handler", (Stub,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        monkeypatch.delenv("WANDB_MODE")
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{running.server_address[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield handler
        finally:
            running.shutdown()
            thread.join()


def test_the_server_is_told_what_to_show(server: type[Stub]) -> None:
    address = ours.save("team/project")
    assert address.endswith("/team/project?nw=abc")
    (told,) = [each["variables"] for each in server.asked if "upsertView" in each["query"]]
    assert (told["entityName"], told["projectName"]) == ("team", "project")
    section = json.loads(told["spec"])["section"]
    panels = [p for each in section["panelBankConfig"]["sections"] for p in each["panels"]]
    config = [panel["config"] for panel in panels]
    curves = {each["metrics"][0]: each for each in config if each.get("metrics")}
    assert {"val/miou", "val/pixel_accuracy", "train/loss", "gamma/pam", "lr/head"} <= set(curves)
    assert {(each["groupAgg"], each["groupArea"]) for each in curves.values()} == {
        ("mean", "stddev")
    }
    assert [each["metricRegex"] for each in config if each.get("useMetricRegex")] == ["val/iou/.*"]
    kinds = {panel["viewType"] for panel in panels}
    assert {"Parameter Importance", "Run Comparer", "Media Browser"} <= kinds
    (runs,) = section["runSets"]
    assert [each["name"] for each in runs["grouping"]] == ["model.value.pam", "model.value.cam"]


def test_a_server_that_refuses_or_is_not_there_is_a_sentence(
    server: type[Stub], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.refuses = True
    with pytest.raises(RequestError, match=r"wandb=a/b: the server refuses: .*"):
        ours.save("a/b")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(RequestError, match=r"W&B is offline here .*did not answer"):
        ours.save("a/b")
    for place in ("a", "a/", "/b", "a/b/c"):
        with pytest.raises(RequestError, match=f"wandb={place}: give entity/project"):
            ours.save(place)


def test_every_point_of_the_sweep_file_is_a_valid_request(tmp_path: Path) -> None:
    """As W&B's agent writes it: true as True, None as a text that is no null."""
    sweep = yaml.safe_load((conf_dir() / "sweep.yaml").read_text())
    assert sweep["command"] == ["python", "-m", "danet_lightning.train", "${args_no_hyphens}"]
    keys = sweep["parameters"]
    choices = {key: each.get("values", [each.get("value")]) for key, each in keys.items()}
    for number in range(max(map(len, choices.values()))):
        drawn = {key: {"value": each[number % len(each)]} for key, each in choices.items()}
        words = create_sweep_command_args({"args": drawn})["args_no_hyphens"]
        assert not any(word.endswith("=None") for word in words)
        with checked_request("train", TrainConfig, understood(words, TrainConfig)) as request:
            assert request.config is not None
