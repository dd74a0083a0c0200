"""As the service runs it: `imgnode exporter` without the memory of all other commands."""

import sys

from imgnode.exporter.daemon import main

main(sys.argv[1:])
