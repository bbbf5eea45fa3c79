"""What scripts/test-faults found for the tests."""

import os
import pathlib

# The folder with the two binaries.
BINARIES = pathlib.Path(os.environ["FAULTS_BIN"])
# The folder with postgres and initdb, and who runs them; empty: whoever runs this.
POSTGRES_BIN = pathlib.Path(os.environ["FAULTS_POSTGRES_BIN"])
POSTGRES_USER = os.environ["FAULTS_POSTGRES_USER"]
# Everything that the tests write is in here, and that user may write here too.
WORK = pathlib.Path(os.environ["FAULTS_WORK"])
# Where the examples of configuration are.
EXAMPLES = pathlib.Path(__file__).resolve().parent.parent
