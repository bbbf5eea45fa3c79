"""The tests of scripts/test-gateway, which finds the programs and runs this."""

import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import checks
import cost
import edge
import vectors
from stack import ROOT, Process


def main():
    with tempfile.TemporaryDirectory(prefix="latchkey-gateway.") as folder:
        work = pathlib.Path(folder)
        descriptors = work / "latchkey.binpb"
        environment = {**os.environ, "PYTHON": sys.executable}
        subprocess.run([ROOT / "deploy/gateway/descriptors", descriptors], check=True, env=environment)
        # The client's messages, from the same files.
        stubs = work / "stubs"
        stubs.mkdir()
        files = [str(file) for file in sorted((ROOT / "proto").glob("*/v1/*.proto"))]
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={ROOT / 'proto'}"]
        command += [f"--python_out={stubs}", f"--grpc_python_out={stubs}", *files]
        subprocess.run(command, check=True)
        sys.path.insert(0, str(stubs))
        try:
            edge.run(work, descriptors)
            vectors.run(work, descriptors)
            cost.run(work, descriptors)
        except AssertionError:
            for process in Process.running:
                print(f"--- {process.name}\n{process.text()[-1500:]}")
            raise
        finally:
            Process.stop_all()
    checks.finish()


if __name__ == "__main__":
    main()
