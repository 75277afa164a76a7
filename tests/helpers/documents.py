"""What the documents state, and the contract rebuilt from them."""

import json
from pathlib import Path
from typing import Any

from mockserver.contract.contract import Contract

DOCUMENTS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent.parent / "documents").glob("*.json"))
}
CONTRACT = Contract.load()
ULTRA: str = DOCUMENTS["flux-1.1-pro-ultra"]["path"]
KONTEXT: str = DOCUMENTS["flux-kontext-max"]["path"]
