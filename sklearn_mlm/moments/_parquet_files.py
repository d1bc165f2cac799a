"""The files that a path names: a file, a folder, a pattern, a URI, or several of them; and the columns in folder names."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote
from urllib.request import url2pathname

import pyarrow.fs as pafs

# Threads that wait for answers of the file system; for fewer local files they cost more than they save.
_N_THREADS, _MANY = 8, 64
_SUFFIXES = (".parquet", ".parq", ".pq")
_LOCAL_URI = re.compile(r"file:(?://(?:localhost)?)?(/.*)", re.DOTALL)
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


class File(NamedTuple):
    """A file by its path in a file system of pyarrow."""

    filesystem: Any
    path: str


def find_files(path: Any) -> list[File]:
    """Return the files that a path or an iterable of paths names, in the order of the entries and by name within each.

    A file of several entries comes once; a repeated entry repeats its files.

    Parameters
    ----------
    path : str, os.PathLike, or iterable of them
        Files, folders, patterns and URIs.

    Raises
    ------
    FileNotFoundError
        If there is no such file, a folder holds none, or a pattern matches none.
    TypeError
        If an entry is no path.
    ValueError
        If a URI holds a pattern and names no local file, or pyarrow does not know it.
    """
    entries = Counter(_entries(path))
    if not entries:
        raise FileNotFoundError(f"path names no file: found an empty {type(path).__name__}.")
    filesystems: list[Any] = []
    times_of: dict[tuple[int, str], int] = {}
    found = map_waiting(_files_of, list(entries), remote=any("://" in entry for entry in entries))
    for (filesystem, paths), times in zip(found, entries.values(), strict=True):
        number = next((i for i, known in enumerate(filesystems) if known.equals(filesystem)), len(filesystems))
        if number == len(filesystems):
            filesystems.append(filesystem)
        for one in paths:
            times_of[number, one] = max(times, times_of.get((number, one), 0))
    return [File(filesystems[number], one) for (number, one), times in times_of.items() for _ in range(times)]


def map_waiting(function: Callable[[Any], Any], items: list[Any], remote: bool) -> list[Any]:
    """Return what a function that waits for a file system returns for each item; on threads if they are many or remote."""
    if not remote and len(items) < _MANY:
        return list(map(function, items))
    with ThreadPoolExecutor(_N_THREADS) as pool:
        return list(pool.map(function, items))


def folder_values(path: str) -> dict[str, str | None]:
    """Return the columns in the names of the folders of a file, as "year=2024", with None for a missing value.

    Names and values are decoded as URLs are. Text that does not decode to UTF-8 stays as it is, so that different names
    stay different. The deepest folder counts if several name a column.
    """
    pairs = (part.partition("=") for part in PurePosixPath(path).parent.parts if "=" in part)
    return {_decoded(key): None if value == _NO_VALUE else _decoded(value) for key, _, value in pairs}


def _decoded(text: str) -> str:
    """Return text without the escapes of URLs."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


def _entries(path: Any) -> Iterator[str]:
    """Yield each path as text; two spellings of a local path that differ by nothing but slashes are the same."""
    if isinstance(path, str | os.PathLike):
        text = os.fspath(path)
        if text == "":
            raise FileNotFoundError("path names no file: found an empty string.")
        if isinstance(text, str):
            local = _LOCAL_URI.fullmatch(text)
            if local is None and "://" in text:
                yield text
            else:
                yield str(Path(os.path.expanduser(text) if local is None else url2pathname(local[1])))
            return
    elif isinstance(path, Iterable) and not isinstance(path, bytes) and not hasattr(path, "read"):
        for one in path:
            yield from _entries(one)
        return
    raise TypeError(
        f"path must name a file or a folder, or be a pattern, a URI, or an iterable of these; found {type(path).__name__}."
        + (" Pass the dataset to from_arrow." if hasattr(path, "scanner") else "")
    )


def _files_of(entry: str) -> tuple[Any, list[str]]:
    """Return the file system of an entry, and the paths of its files."""
    if "://" in entry:
        return _remote_files(entry)
    filesystem = pafs.LocalFileSystem()
    if os.path.exists(entry) or not glob.has_magic(entry):
        return filesystem, _walk(filesystem, Path(entry).absolute().as_posix())
    parts = Path(entry).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed]).absolute()
    # A pattern may match a folder and files in it.
    matches: set[str] = set()
    skipped: list[str] = []
    for match in glob.iglob(entry, recursive=True):
        found = Path(match).absolute()
        if os.path.isdir(match):
            if not _is_skipped(found.relative_to(root).parts, is_file=False):
                matches.update(_visible_files(filesystem, found.as_posix(), skipped))
        elif _is_skipped(found.relative_to(root).parts):
            skipped.append(found.relative_to(root).as_posix())
        else:
            matches.add(found.as_posix())
    if not matches:
        raise FileNotFoundError(f"No Parquet file matches {entry!r} (looked in {str(root)!r}{_left_out(skipped)}).")
    return filesystem, sorted(matches)


def _remote_files(uri: str) -> tuple[Any, list[str]]:
    """Return the file system of a URI, and the paths of its files."""
    if re.search(r"[*\[]", uri.partition("://")[2].partition("/")[2]):
        raise ValueError(f"path={uri!r} has a pattern, which works for local files only. Name the folder, or each file.")
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
    except ValueError as error:
        raise ValueError(f"path={uri!r} is no URI that pyarrow can read: {error}") from error
    return filesystem, _walk(filesystem, path)


def _walk(filesystem: Any, path: str) -> list[str]:
    """Return a file, or the files of a folder."""
    kind = filesystem.get_file_info(path).type
    if kind == pafs.FileType.NotFound:
        raise FileNotFoundError(f"There is no file or folder {path!r}.")
    if kind != pafs.FileType.Directory:
        return [path]
    skipped: list[str] = []
    files = _visible_files(filesystem, path, skipped)
    if not files:
        raise FileNotFoundError(f"The folder {path!r} has no Parquet file in it or below it{_left_out(skipped)}.")
    return files


def _visible_files(filesystem: Any, folder: str, skipped: list[str]) -> list[str]:
    """Return the files in a folder and below it, sorted; add those that are left out to `skipped`."""
    files = []
    for info in filesystem.get_file_info(pafs.FileSelector(folder, recursive=True)):
        if info.type == pafs.FileType.File:
            below = PurePosixPath(info.path).relative_to(folder)
            if _is_skipped(below.parts):
                skipped.append(str(below))
            else:
                files.append(info.path)
    return sorted(files)


def _is_skipped(parts: tuple[str, ...], is_file: bool = True) -> bool:
    """Return whether a name below a folder is not data: hidden, of a log or a summary, or of files half written."""
    folders = parts[:-1] if is_file else parts
    if any(name.startswith(".") or (name.startswith("_") and "=" not in name) for name in folders):
        return True
    name = parts[-1] if is_file else ""
    return name.startswith(".") or (name.startswith("_") and not name.lower().endswith(_SUFFIXES))


def _left_out(skipped: list[str]) -> str:
    """Return the part of an error that says which files were left out."""
    if not skipped:
        return ""
    return f"; names that begin with '.' or '_' are left out, which are {len(skipped)} here, such as {min(skipped)!r}"
