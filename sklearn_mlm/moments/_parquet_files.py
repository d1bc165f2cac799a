"""Paths to files: what a file, a folder, a pattern, a URI or an iterable of these names; and columns in folder names."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar
from urllib.parse import unquote
from urllib.request import url2pathname

import pyarrow.fs as pafs

from ._storage import Paths

# Threads that wait for the file system, and the number of local files from which they save more than they cost.
_N_THREADS, _MANY = 8, 64
_SUFFIXES = (".parquet", ".parq", ".pq")
_LOCAL_URI = re.compile(r"file:(?://(?:localhost)?)?(/.*)", re.DOTALL)
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class File(NamedTuple):
    """A file by its path in a file system of pyarrow."""

    filesystem: pafs.FileSystem
    path: str


def find_files(path: Paths) -> list[File]:
    """Return the files that a path or an iterable of paths names, in the order of the entries and by name within each.

    A file that several entries name is returned once; a repeated entry repeats its files.

    Parameters
    ----------
    path : str, os.PathLike, or iterable of them
        Files, folders, patterns and URIs.

    Returns
    -------
    files : list of File
        The files, of one or several file systems.

    Raises
    ------
    FileNotFoundError
        If a file does not exist, a folder holds no file, or a pattern matches none.
    TypeError
        If an entry is not a path.
    ValueError
        If a URI of a remote file system contains a pattern, or pyarrow cannot read the URI.
    """
    entries = Counter(_entries(path))
    if not entries:
        raise FileNotFoundError(f"path names no file: found an empty {type(path).__name__}.")
    filesystems: list[pafs.FileSystem] = []
    repeats: dict[tuple[int, str], int] = {}
    found = map_waiting(_files_of, list(entries), remote=any("://" in entry for entry in entries))
    for (filesystem, paths), times in zip(found, entries.values(), strict=True):
        number = next((i for i, known in enumerate(filesystems) if known.equals(filesystem)), len(filesystems))
        if number == len(filesystems):
            filesystems.append(filesystem)
        for name in paths:
            repeats[number, name] = max(times, repeats.get((number, name), 0))
    return [File(filesystems[number], name) for (number, name), times in repeats.items() for _ in range(times)]


def map_waiting(function: Callable[[_Item], _Result], items: list[_Item], remote: bool) -> list[_Result]:
    """Return the results of a function that waits for a file system; on threads if the items are many or remote."""
    if not remote and len(items) < _MANY:
        return list(map(function, items))
    with ThreadPoolExecutor(_N_THREADS) as pool:
        return list(pool.map(function, items))


def folder_values(path: str) -> dict[str, str | None]:
    """Return the columns in a file's folder names, such as "year=2024", with None for a missing value.

    Names and values are decoded as URLs are. Text that does not decode to UTF-8 stays as it is, so that different names
    stay different. If several folders name a column, the deepest takes precedence.
    """
    pairs = (part.partition("=") for part in PurePosixPath(path).parent.parts if "=" in part)
    return {_decoded(key): None if value == _NO_VALUE else _decoded(value) for key, _, value in pairs}


def _decoded(text: str) -> str:
    """Return text with the escapes of URLs decoded."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


def _entries(path: Paths) -> Iterator[str]:
    """Yield each path as text, local ones normalised, so that spellings that differ only by slashes are equal."""
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
        for entry in path:
            yield from _entries(entry)
        return
    raise TypeError(
        f"path must name a file or a folder, or be a pattern, a URI, or an iterable of these; found {type(path).__name__}."
        + (" Pass the dataset to from_arrow." if hasattr(path, "scanner") else "")
    )


def _files_of(entry: str) -> tuple[pafs.FileSystem, list[str]]:
    """Return the file system and the paths of an entry's files."""
    if "://" in entry:
        return _remote_files(entry)
    filesystem = pafs.LocalFileSystem()
    if os.path.exists(entry) or not glob.has_magic(entry):
        return filesystem, _walk(filesystem, Path(entry).absolute().as_posix())
    parts = Path(entry).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed]).absolute()
    # A pattern may match both a folder and files in it.
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


def _remote_files(uri: str) -> tuple[pafs.FileSystem, list[str]]:
    """Return the file system and the paths of a URI's files."""
    if re.search(r"[*\[]", uri.partition("://")[2].partition("/")[2]):
        raise ValueError(f"path={uri!r} has a pattern, which works for local files only. Name the folder, or each file.")
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
    except ValueError as error:
        raise ValueError(f"path={uri!r} is not a URI that pyarrow can read: {error}") from error
    return filesystem, _walk(filesystem, path)


def _walk(filesystem: pafs.FileSystem, path: str) -> list[str]:
    """Return the path of a file, or the paths of a folder's files."""
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


def _visible_files(filesystem: pafs.FileSystem, folder: str, skipped: list[str]) -> list[str]:
    """Return the files in a folder and below it, sorted; append those that are skipped to `skipped`."""
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
    """Return whether a path below a folder is not data: a hidden file, a log, a summary, or a file that is half written."""
    folders, name = (parts[:-1], parts[-1]) if is_file else (parts, "")
    if any(folder.startswith(".") or (folder.startswith("_") and "=" not in folder) for folder in folders):
        return True
    return name.startswith(".") or (name.startswith("_") and not name.lower().endswith(_SUFFIXES))


def _left_out(skipped: list[str]) -> str:
    """Return the part of an error message that reports which files were skipped, if there are any."""
    if not skipped:
        return ""
    return f"; {len(skipped)} file(s) were skipped because of a name that begins with '.' or '_', such as {min(skipped)!r}"
