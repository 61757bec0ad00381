"""The failures of use cases and stores. Each has a sentence for the client and a stable code."""

from __future__ import annotations


class FileError(Exception):
    """A failure with a sentence for the client and a stable `code` for scripts.

    `details` become the content of the answer. `hint` says what to do if the message cannot.
    """

    code = "file_error"

    def __init__(self, message: str, *, details: object = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.hint = hint


class InvalidName(FileError):
    code = "invalid_file_name"


class DuplicateName(FileError):
    """Two files of one form would be stored under the same name."""

    code = "duplicate_file_name"


class InvalidContentType(FileError):
    code = "invalid_content_type"


class FileNotFound(FileError):
    code = "file_not_found"


class FileExists(FileError):
    code = "file_exists"


class FileChanged(FileError):
    """A condition of the request (If-Match, If-Unmodified-Since) failed."""

    code = "precondition_failed"


class InvalidCopy(FileError):
    """The source and the destination of a copy, or of a move, do not fit together."""

    code = "invalid_copy"


class RangeNotSatisfiable(FileError):
    code = "range_not_satisfiable"


class FileNotDeleted(FileError):
    code = "file_not_deleted"


class VersioningOff(FileError):
    code = "versioning_off"


class TooManyFiles(FileError):
    """The request names more files than the service handles at once."""

    code = "too_many_files"


class FileTooLarge(FileError):
    code = "file_too_large"


class DigestMismatch(FileError):
    code = "digest_mismatch"


class UploadInterrupted(FileError):
    """The connection ended before the whole body had arrived."""

    code = "upload_interrupted"


class MalformedBody(FileError):
    """The bytes of the body do not have the form that the head announces."""

    code = "malformed_request"


class ClientTooSlow(FileError):
    """The body arrived more slowly than the minimum rate, or stopped arriving."""

    code = "request_timeout"


class UploadNotFound(FileError):
    code = "upload_not_found"


class UploadCompleted(FileError):
    """The upload cannot be aborted, because it was completed and its file exists."""

    code = "upload_completed"


class InvalidParts(FileError):
    code = "invalid_parts"


class UploadGone(FileError):
    """The upload was terminated or has expired."""

    code = "upload_gone"


class UploadLinkNotFound(FileError):
    """The URL has no upload link that this service has signed."""

    code = "upload_link_not_found"


class UploadLinkGone(FileError):
    """The upload link has expired, or its creator may no longer write there."""

    code = "upload_link_gone"


class WrongOffset(FileError):
    """The bytes do not continue the upload: it has received more bytes, or fewer."""

    code = "wrong_offset"


class ChunkTooSmall(FileError):
    """The store takes no part of this size, and the file does not end with it."""

    code = "chunk_too_small"


class ChunkNotOnePart(FileError):
    """A chunk with a checksum is not exactly one part, so the service could not take it back as a whole."""

    code = "chunk_not_one_part"


class ChecksumMismatch(FileError):
    """The bytes of one request do not have the checksum that the request names."""

    code = "checksum_mismatch"


class InvalidCursor(FileError):
    code = "invalid_cursor"


class Conflict(FileError):
    code = "conflict"


class StagingFull(FileError):
    code = "staging_full"


class FormTooLarge(StagingFull):
    """The form would never fit into the staging directory, so sending it again later does not help."""


class StagingFailed(FileError):
    """The disk of the staging directory failed."""

    code = "staging_failed"


class TooBusy(FileError):
    code = "too_busy"


class TokenKeysUnavailable(FileError):
    """The keys that a token is checked with cannot be fetched."""

    code = "token_keys_unavailable"


class StoreUnavailable(FileError):
    code = "s3_unavailable"


class StoreThrottled(StoreUnavailable):
    code = "s3_throttled"


class BucketNotFound(StoreUnavailable):
    code = "bucket_not_found"


class StoreDenied(FileError):
    """The store denied the service an operation, which `code` names."""

    code = "s3_denied"

    def __init__(self, message: str, operation: str) -> None:
        super().__init__(message)
        self.code = f"s3_{operation}_denied"


class StoreFailed(FileError):
    code = "s3_error"


class ClockSkewed(StoreFailed):
    """The store rejects signatures because this machine's clock is wrong."""

    code = "clock_skewed"


def changed(name: str) -> FileChanged:
    return FileChanged(f"The file '{name}' does not match the condition of the request; nothing was changed")
