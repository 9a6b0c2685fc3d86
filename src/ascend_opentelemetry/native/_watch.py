"""The config file on disk: made when missing, read again when its content changes, switched off at the time limit."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ascend_opentelemetry.native._config import ConfigError, ProfileConfig, default_text, members, parse

_logger = logging.getLogger(__name__)

_MAX_BYTES = 1 << 20
#: Problems of a file that are told one by one.
_MANY = 20
#: A file changed this recently (ns) is read again: time stamps of files are only as fine as 1 or 2 s on some systems.
_SETTLED = 2_000_000_000


class ConfigFile:
    """The file that ``SERVICE_PROF_CONFIG_PATH`` names.

    Args:
        path: taken relative to the working directory of now. A missing file is made when the path ends in ``.json``.
        tells: whether this process warns of what is wrong with the file: one of a service does.
    """

    def __init__(self, path: str, tells: Callable[[], bool] = lambda: True) -> None:
        self.path = Path(path).absolute()
        self._tells = tells
        #: When the content that counts was written, ns since 1970.
        self.changed_ns = 0
        self._stamp: tuple[int, int, int] | None = None
        self._text: str | None = None
        self._suspect = ""
        self._cause = ""
        self._said: set[str] = set()
        if not self.path.exists():
            self._create()

    def _create(self) -> None:
        target = self.path.resolve()
        if target.suffix != ".json":
            self._warn(f"{self.path}: does not exist, and is not made as its name does not end in .json")
            return
        try:
            file, temporary = tempfile.mkstemp(dir=target.parent, prefix="temp_")  # mode 0600
            try:
                with os.fdopen(file, "w", encoding="utf-8") as out:
                    out.write(default_text())
                os.link(temporary, target)  # fails when another process was faster; a rename would overwrite its file
            finally:
                Path(temporary).unlink()
        except FileExistsError:
            pass
        except OSError as error:
            self._warn(f"{self.path}: cannot be made: {error.strerror}")

    def poll(self) -> ProfileConfig | None:
        """The new configuration when the content of the file changed, else None.

        A file that is missing or broken changes nothing; each cause is one warning.
        """
        try:
            if self._stamp is not None and self._stamp == _stamp(self.path.stat()):
                return None
            text, status = read(self.path)
            config, problems = (None, []) if text == self._text else parse(text, str(self.path))
        except FileNotFoundError:
            if self._text is not None or not self._cause:  # else said when it could not be made
                self._complain(f"{self.path}: is gone")
            return None
        except OSError as error:
            self._complain(f"{self.path}: cannot be read: {error.strerror}")
            return None
        except ConfigError as error:
            self._complain(str(error))
            return None
        self._cause = self._suspect = ""
        settled = time.time_ns() - status.st_mtime_ns > _SETTLED
        self._stamp = _stamp(status) if settled else None
        if config is not None:
            self._text, self.changed_ns = text, status.st_mtime_ns
        messages = [str(problem) for problem in problems[:_MANY]]
        if more := len(problems[_MANY:]):
            messages.append(f"{self.path}: {more} more problems: ascend-otel config show --file {self.path}")
        for message in messages:
            if message not in self._said:
                self._said.add(message)
                self._log(message)
        return config

    def _complain(self, cause: str) -> None:
        # editors truncate or move a file before they write it: only what two looks find is worth a word
        self._stamp = None
        if cause != self._suspect:
            self._suspect = cause
        elif cause != self._cause:
            self._warn(cause)

    def _warn(self, cause: str) -> None:
        self._cause = cause
        kept = "profiling stays off" if self._text is None else "its last good content stays in force"
        self._log(f"{cause}; {kept}")

    def _log(self, message: str) -> None:
        _logger.log(logging.WARNING if self._tells() else logging.DEBUG, "%s", message)

    def disable(self) -> bool:
        """Turn ``"enable": 1`` into 0 in the file and leave every other byte, its mode and its owner as they are.

        Returns:
            Whether the file was changed; a read-only file is left alone.
        """
        try:
            if not self.path.stat().st_mode & 0o222:  # root could write it all the same
                raise PermissionError(0, "it is read-only")
            file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                text = os.read(file, _MAX_BYTES).decode()
                at, value = {key: (at, value) for key, _, at, value in members(text)}["enable"]
                if type(value) is not int or value != 1:
                    return False
                # one byte in place: atomic, and good for symlinks and files mounted one by one, where a rename is not
                os.pwrite(file, b"0", len(text[:at].encode()))
            finally:
                os.close(file)
        except OSError as error:
            _logger.info('%s: "enable" stays 1: %s', self.path, error.strerror)
            return False
        except (ValueError, LookupError, RecursionError):  # edited a moment ago: the next poll tells
            return False
        return True


def read(path: Path) -> tuple[str, os.stat_result]:
    """Content of a config file, and its status.

    Raises:
        ConfigError: it is no text file of at most 1 MiB.
        OSError: it cannot be read.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not block
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
            raise ConfigError(f"{path}: is no regular file of at most 1 MiB")
        return os.read(file, _MAX_BYTES).decode(), status
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no UTF-8 text (byte {error.start})") from error
    finally:
        os.close(file)


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_size, status.st_ino
