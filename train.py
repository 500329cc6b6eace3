"""Train, score and draw: ``python train.py attention=luong_general``; every option is in configs/."""

import sys

from nmt.cli.common import exit_code
from nmt.cli.train import main

if __name__ == "__main__":
    sys.exit(exit_code(main))
