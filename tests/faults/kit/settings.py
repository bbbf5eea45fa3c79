"""What scripts/test-faults found for the tests."""

import os
import pathlib

# The folder with the two binaries.
BINARIES = pathlib.Path(os.environ["FAULTS_BIN"])
# The folder with postgres and initdb, and who runs them; empty: whoever runs this.
POSTGRES_BIN = pathlib.Path(os.environ["FAULTS_POSTGRES_BIN"])
POSTGRES_USER = os.environ["FAULTS_POSTGRES_USER"]
# CoreDNS; empty where it is not there.
COREDNS = os.environ.get("FAULTS_COREDNS", "")
# Everything that the tests write is in here, and that user may write here too.
WORK = pathlib.Path(os.environ["FAULTS_WORK"])
# The ports that these tests may use: other tests that run at the same time have others.
PORTS = range(*map(int, os.environ.get("FAULTS_PORTS", "20000-32000").split("-")))
# The root of the repository, and the examples of configuration in it.
ROOT = pathlib.Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "deploy"
