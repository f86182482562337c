import json
import socket
import time

import pytest
import wandb

from danet_lightning import tracking


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """No mode, no key, no netrc, no server: a bare machine."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return monkeypatch


@pytest.fixture
def silent_server():
    """Accepts connections and never answers: a captive portal at its worst."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_offline_without_a_key(nobody):
    mode, reason = tracking.choose_mode()
    assert mode == "offline"
    assert "wandb login" in reason


def test_offline_within_seconds_when_the_server_is_silent(nobody, silent_server):
    nobody.setenv("WANDB_API_KEY", "k" * 40)
    nobody.setenv("WANDB_BASE_URL", silent_server)
    nobody.setattr(tracking, "CONNECT_SECONDS", 0.5)
    begin = time.monotonic()
    mode, reason = tracking.choose_mode()
    assert mode == "offline"
    assert silent_server in reason
    assert time.monotonic() - begin < 5


def test_offline_when_nobody_listens(nobody):
    nobody.setenv("WANDB_API_KEY", "k" * 40)
    nobody.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert tracking.choose_mode()[0] == "offline"


def test_the_users_mode_wins(nobody):
    nobody.setenv("WANDB_MODE", "disabled")
    assert tracking.choose_mode()[0] == "disabled"


def test_a_key_in_netrc_counts(nobody, tmp_path):
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n login user\n password {'k' * 40}\n")
    (tmp_path / "netrc").chmod(0o600)
    assert tracking.has_key("api.wandb.ai")
    assert not tracking.has_key("wandb.example.org")


def test_best_miou_is_in_the_summary(nobody, tmp_path):
    logger = tracking.wandb_logger(str(tmp_path), tags=["test"])
    for step, value in enumerate((0.2, 0.7, 0.5)):
        logger.log_metrics({"val/miou": value}, step=step)
    summary = dict(logger.experiment.summary)
    folder = logger.experiment.dir
    wandb.finish()
    assert "offline-run" in folder
    assert json.loads(json.dumps(summary["val/miou"], default=dict)) == {"max": 0.7, "last": 0.5}
