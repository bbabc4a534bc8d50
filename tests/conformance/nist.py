"""Run the NIST XDS Toolkit's test plans against a fresh server: `python tests/conformance/nist.py [--workers N]`.

The plans and their runner are reference material beside the project (../shared/nist-testkit); the exit code is the
runner's. The groups named here are those that docs/conformance.md claims.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.server_process import server_process  # noqa: E402 - run as a script, the project's root has to be found

RUNNER = ROOT.parent / "shared" / "nist-testkit" / "run.py"
GROUPS = ("registry", "repository", "repository-wire", "testdata")


def main() -> int:
    """Start a server, run the plans, stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("rest", nargs="*", help="further arguments for the runner, after --")
    arguments = parser.parse_args()
    if not RUNNER.exists():
        sys.stderr.write("../shared/nist-testkit is not there\n")
        return 2
    with (
        tempfile.TemporaryDirectory(prefix="toimik-nist-") as directory,
        server_process(Path(directory) / "data", workers=arguments.workers) as server,
    ):
        command = [
            sys.executable,
            str(RUNNER),
            "--all-registry",
            server.registry,
            "--all-repository",
            server.repository,
        ]
        for group in GROUPS:
            command += ["--group", group]
        outcome = subprocess.run([*command, *arguments.rest], check=False)
        if server.stop() != 0:
            sys.stderr.write("the server did not stop cleanly\n")
            return 1
        return outcome.returncode


if __name__ == "__main__":
    sys.exit(main())
