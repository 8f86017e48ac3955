"""`rram` with the quick experiment among its commands: python -m tests.records.quick_cli ..."""

from rram_host.cli import cli, main
from rram_host.cli.experiment_command import experiment_command
from rram_host.experiments.catalogue import EXPERIMENTS
from tests.records.quick import QUICK

EXPERIMENTS["quick"] = QUICK
cli.add_command(experiment_command(QUICK))

if __name__ == "__main__":
    main()
