"""The verb that serves. Reads keys from the environment and never logs a path, for paths hold ids."""

import ipaddress
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

from cli.production import describe_store
from cli.variables import Place, Range, option
from recsys import RecsysError

log = logging.getLogger("recsys.serving")
SHORTEST = 16  # characters of a key


def read_keys() -> list[str]:
    """Of RECS_API_KEYS (commas between them) and the lines of the file RECS_API_KEYS_FILE. Refuses either if it is set and empty:
    a secret that was not mounted must not open the door."""
    given, file = os.environ.get("RECS_API_KEYS"), os.environ.get("RECS_API_KEYS_FILE")
    try:
        parts = [given.split(",")] if given is not None else []
        parts += [Path(file).read_text().splitlines()] if file is not None else []
    except (OSError, ValueError) as error:
        raise RecsysError(f'RECS_API_KEYS_FILE "{file}" cannot be read: {error}; name a file of one key a line') from None
    found = [[key.strip() for key in part if key.strip()] for part in parts]
    if not all(found):
        raise RecsysError("RECS_API_KEYS or RECS_API_KEYS_FILE is set and holds no key; give it one, or unset it")
    keys = [key for part in found for key in part]
    if short := [key for key in keys if len(key) < SHORTEST]:
        raise RecsysError(f"{len(short)} API keys are shorter than {SHORTEST} characters; make longer ones: openssl rand -hex 16")
    return keys


def refuse_open_door(host: str, allowed_hosts: list[str], keys: list[str]) -> None:
    """Without keys, serves this machine alone, and no web page that a browser here opens."""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not (local or keys):
        raise RecsysError(
            f"serve.host is {host}, which others can reach, and there are no keys; set RECS_API_KEYS or serve on 127.0.0.1"
        )
    if "*" in allowed_hosts and not keys:
        raise RecsysError(
            f'serve.allowed_hosts is {allowed_hosts}: "*" lets any web page that a browser here opens read what is served, and'
            " there are no keys; set RECS_API_KEYS or name the hosts"
        )


def serve(
    place: Place,
    host: Annotated[str, option("address to listen on, instead of serve.host of config.toml", shown="ADDRESS")] = "",
    port: Annotated[int | None, option("instead of serve.port", read=Range(1, 65_535, is_whole=True), shown="PORT")] = None,
) -> None:
    """Answers requests from the live release, with a page to try it."""
    import uvicorn

    from recsys.serving import Service

    chosen, keys = place.settings(), read_keys()
    host = host or chosen.serve.host
    refuse_open_door(host, chosen.serve.allowed_hosts, keys)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    log.info("what is live in this store is served: %s", describe_store(place.root, place.branch_name))
    log.info("requests to these hosts are answered (serve.allowed_hosts): %s", ", ".join(chosen.serve.allowed_hosts))
    for one in (signal.SIGINT, signal.SIGTERM):  # being stopped is no error; uvicorn answers what is under way first
        signal.signal(one, lambda *_: sys.exit())
    uvicorn.run(
        Service(place.open_store(chosen), chosen).app(keys),
        host=host,
        port=port or chosen.serve.port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=10,
        server_header=False,
    )
