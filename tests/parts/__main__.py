"""The command line of the parts: `python3 tests/parts PART start|stop|restart|kill|pause|resume|status|env [NODE]`."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from parts.command_line import main

    sys.exit(main(sys.argv[1:]))
