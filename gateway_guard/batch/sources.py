"""What a history consists of: traces, and Parquet that `gateway-guard export` made of them; as the Parquet files that an engine reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gateway_guard.errors import TrafficError, UsageError
from gateway_guard.trace.events import is_trace
from gateway_guard.trace.export import Source
from gateway_guard.trace.output import Output
from gateway_guard.trace.parquet import Sheet, pyarrow
from gateway_guard.trace.tables import VERSION

_ABOUT = "gateway_guard."
_TABLE = "events"


class History(NamedTuple):
    """`paths` of Parquet files, or addresses that an engine knows how to read · `key` by which its hashes were made, empty if that is not told."""

    paths: tuple[str, ...]
    key: str


def history(names: Sequence[str], folder: Path) -> History:
    """The history in some files and folders; what is no Parquet yet is put into `folder` as such."""
    paths = list(dict.fromkeys(path for name in names for path in _files(name, folder)))
    keys = {_about(path).get("key", "") for path in paths if not _elsewhere(path)}
    if len(keys) > 1:
        raise UsageError("the history was made with more than one key: the same account has another hash in each, so give those of one key")
    return History(tuple(paths), keys.pop() if keys else "")


def _files(name: str, folder: Path) -> Iterator[str]:
    """The Parquet files that an argument stands for. In a folder, those with other tables are left out."""
    if _elsewhere(name):
        yield name
    elif Path(name).is_dir():
        found = [str(path) for path in sorted(Path(name).rglob("*.parquet"))]
        kept = [path for path in found if _about(path).get("table") == _TABLE]
        if not kept:
            raise TrafficError(f"{name}: no Parquet file with events in it: make some with `gateway-guard export TRACE --partition day --out FOLDER`")
        yield from kept
    elif name.endswith(".parquet"):
        yield _events(name)
    else:
        yield _made(name, folder)


def _events(name: str) -> str:
    about = _about(name)
    if about.get("table") != _TABLE:
        raise TrafficError(f"{name}: holds no events: make it with `gateway-guard export TRACE.ggt --out NAME.parquet`")
    if about.get("version") != VERSION:
        raise TrafficError(f"{name}: its table has version {about.get('version')}, but this gateway-guard reads version {VERSION}")
    return name


def _made(name: str, folder: Path) -> str:
    """A trace as a Parquet file of `folder`."""
    if not Path(name).exists():
        raise TrafficError(f"{name}: there is no such file or folder")
    if not is_trace(name):
        log = f"gateway-guard replay {name} --policy FILE --trace NAME.ggt"
        raise TrafficError(f"{name}: is neither a trace nor Parquet with events in it; of an exchange log make a trace first: `{log}`")
    source = Source(name, str)
    place = folder / f"trace-{len(list(folder.iterdir()))}.parquet"
    try:
        with Output(place) as output:
            sheet = Sheet(output, source.columns, source.about)
            for _, cells in source:
                sheet.add(cells)
            sheet.finish()
    finally:
        source.close()
    return str(place)


def _about(path: str) -> dict[str, str]:
    """What a file tells of itself."""
    arrow, parquet = pyarrow(path)
    try:
        told: dict[Any, Any] = parquet.read_schema(path).metadata or {}
    except (OSError, arrow.ArrowException) as error:
        raise TrafficError(f"{path}: is no Parquet that can be read: {error}") from None
    names = {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in told.items()}
    return {name.removeprefix(_ABOUT): value for name, value in names.items() if name.startswith(_ABOUT)}


def _elsewhere(name: str) -> bool:
    """Whether a name is an address (`s3://...`), which is the engine's own business."""
    return "://" in name
