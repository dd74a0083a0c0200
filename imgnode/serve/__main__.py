"""`python -m imgnode.serve`: one start, in a process that has loaded nothing else."""

import sys

from imgnode.serve.runner import serve

if __name__ == "__main__":
    sys.exit(serve())
