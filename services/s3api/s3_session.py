"""The boto3 session of the service: it finds the credentials, and makes the clients.

botocore describes S3, its endpoints and their rules in files of JSON. It keeps them in memory, with the
documentation of each operation and in `OrderedDict`, for which the process would need 5 MiB more.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import boto3.session
import botocore.loaders
import botocore.session


def session(region: str) -> boto3.session.Session:
    core = botocore.session.get_session()
    loader = botocore.loaders.create_loader(core.get_config_variable("data_path"))
    loader.file_loader = _FileLoader()
    core.register_component("data_loader", loader)
    return boto3.session.Session(region_name=region, botocore_session=core)


class _FileLoader(botocore.loaders.JSONFileLoader):
    def load_file(self, file_path: str) -> Any:
        """The content of a file, whose name is given without its suffix; None if there is none."""
        plain, packed = Path(f"{file_path}.json"), Path(f"{file_path}.json.gz")
        if plain.is_file():
            text = plain.read_bytes()
        elif packed.is_file():
            text = gzip.decompress(packed.read_bytes())
        else:
            return None
        return json.loads(text, object_pairs_hook=_without_documentation)


def _without_documentation(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: "" if name == "documentation" else value for name, value in pairs}
