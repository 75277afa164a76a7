"""Writes admin.d.ts, the types of the admin API, from contracts/admin.yaml: `make types`."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from mockserver.admin.api import document_with
from mockserver.contract.contract import Contract
from mockserver.scenarios.catalogue import Catalogue

HERE = Path(__file__).parent


def main() -> None:
    """Write the types to the file that is named, or to admin.d.ts."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "admin.d.ts"
    catalogue = Catalogue(Contract.load())
    document = document_with(catalogue.schema, [scenario.name for scenario in catalogue])
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "admin.json"
        source.write_text(json.dumps(document))
        tool = HERE / "node_modules" / "openapi-typescript" / "bin" / "cli.js"
        # What has a default may be left out of a request.
        command = [
            "node",
            str(tool),
            str(source),
            "--default-non-nullable",
            "false",
            "--output",
            str(target),
        ]
        subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()
