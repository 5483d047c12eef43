"""The summary of a batch in the store of its results."""

from pathlib import Path

from omegaconf import DictConfig

from lift.batch.records import (
    Record,
    format_records,
    parse_records,
    read_summary,
    summary_lock,
)
from lift.remote.store import open_store, read_text, write_text
from lift.remote.urls import join, output_url
from lift.runtime.atomic_io import acquire, make_folder, publish


def fetch_summary(config: DictConfig, path: Path) -> None:
    """Merge the store's summary into the local file, which a new machine does not have.

    Args:
        config: Configuration of the batch. Nothing happens if its output is a local folder.
        path: The local file.
    """
    if (output := output_url(config)) is None:
        return
    make_folder(path.parent)
    lock = summary_lock(path)
    acquire(lock, lambda: None)
    try:
        if records := _merged(path, join(output, path.name)):
            text = format_records(records)
            publish(path, lambda draft: draft.write_text(text, encoding="utf-8"))
    finally:
        lock.release()


def share_summary(config: DictConfig, path: Path) -> None:
    """Upload the summary of a batch, merged with what other jobs have uploaded meanwhile.

    Args:
        config: Configuration of the batch. Nothing happens if its output is a local folder.
        path: The local file. It need not exist.
    """
    if (output := output_url(config)) is None or not path.is_file():
        return
    url = join(output, path.name)
    write_text(open_store(url), url, format_records(_merged(path, url)))


def _merged(path: Path, url: str) -> list[Record]:
    """Return the newest record of each picture in a local file and at a URL."""
    try:
        records = parse_records(read_text(open_store(url), url))
    except (FileNotFoundError, UnicodeDecodeError):
        records = []
    records += read_summary(path) if path.is_file() else []
    ordered = sorted(records, key=lambda record: record.when)
    return parse_records(format_records(ordered))
