"""The service as a process: `make serve`. Reads keys from the environment and never logs a path, for paths hold ids."""

import ipaddress
import logging
import os
import sys
from pathlib import Path

import uvicorn

from commands import settings, store
from recsys import RecsysError
from recsys.serving.app import Service

SHORTEST = 16  # characters of a key


def read_keys() -> list[str]:
    """Of RECS_API_KEYS (commas between them) and the lines of the file RECS_API_KEYS_FILE."""
    keys = os.environ.get("RECS_API_KEYS", "").split(",")
    if file := os.environ.get("RECS_API_KEYS_FILE", ""):
        try:
            keys += Path(file).read_text().splitlines()
        except OSError as error:
            raise RecsysError(
                f'RECS_API_KEYS_FILE "{file}" cannot be read: {error.strerror}; name a file of one key a line'
            ) from None
    found = [key.strip() for key in keys if key.strip()]
    if short := [key for key in found if len(key) < SHORTEST]:
        raise RecsysError(f"{len(short)} API keys are shorter than {SHORTEST} characters; make longer ones: openssl rand -hex 16")
    return found


def refuse_open_door(host: str, keys: list[str]) -> None:
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not (local or keys):
        raise RecsysError(
            f"serve.host is {host}, which others can reach, and there are no keys; set RECS_API_KEYS or serve on 127.0.0.1"
        )


def main() -> None:
    chosen, keys = settings(), read_keys()
    host, port = os.environ.get("HOST") or chosen.serve.host, int(os.environ.get("PORT") or chosen.serve.port)
    refuse_open_door(host, keys)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    uvicorn.run(
        Service(store(chosen), chosen).app(keys),
        host=host,
        port=port,
        access_log=False,
        log_config=None,
        limit_concurrency=chosen.serve.most_connections,
        timeout_graceful_shutdown=10,
        server_header=False,
    )


if __name__ == "__main__":
    try:
        main()
    except RecsysError as error:
        sys.exit(f"error: {error}")
