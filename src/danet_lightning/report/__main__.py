"""Compare runs on one page."""

from danet_lightning.config.commands import ReportConfig
from danet_lightning.config.launch import launch

if __name__ == "__main__":
    launch("report", ReportConfig)
