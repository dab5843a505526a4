"""Every knob: its name in the environment is `REELWEB_` and the field's in capitals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import ByteSize, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.settings.kinds import (
    AnyCase,
    CertificatesFile,
    Host,
    HostNames,
    HttpUrl,
    Networks,
    Origins,
    PostgresqlUrl,
    Seconds,
    StorageUrl,
    TokensFile,
    is_loopback,
)

PREFIX = "REELWEB_"


def _mib(count: int) -> ByteSize:
    return ByteSize(count << 20)


class Settings(BaseSettings):
    """Sizes are bytes (`64MiB` is understood), times are seconds, lists are separated by commas."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    # where things are
    database_url: PostgresqlUrl | None = Field(
        default=None,
        repr=False,
        description="PostgreSQL 15 or newer, postgresql://…; unset: an embedded one below DATA_DIR",
    )
    storage_url: StorageUrl | None = Field(
        default=None,
        repr=False,
        description="Where objects are kept: s3://bucket/prefix or file:///folder; unset: the folder storage below DATA_DIR",
    )
    data_dir: Path = Field(
        default=Path("reelweb-data"), description="The folder of the lock, the database and the storage"
    )

    # the object store; its credentials are those of the environment: AWS_ACCESS_KEY_ID, …, or a role
    s3_endpoint: HttpUrl | None = Field(
        default=None, description="https://… of an S3 that is not Amazon's; http:// only on purpose"
    )
    s3_region: str | None = Field(default=None, description="Its region; unset: AWS_REGION, then us-east-1")
    s3_path_style: bool | None = Field(
        default=None,
        description="The bucket in the path, not in the host's name; unset: so with S3_ENDPOINT only",
    )
    s3_ca_bundle: CertificatesFile | None = Field(
        default=None, description="PEM file with the authorities to trust beside the system's"
    )
    s3_sse: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = Field(
        default=None, description="Encryption at rest to ask for with every object"
    )
    s3_sse_kms_key_id: str | None = Field(default=None, description="The key for aws:kms")
    s3_timeout_s: Seconds = Field(
        default=20, description="A request to the store takes no longer; it is tried again for twice as long"
    )
    s3_upload_memory: ByteSize = Field(
        default=_mib(192), ge=_mib(16), description="What uploads hold of their parts, in each process"
    )

    # who may come in
    host: Host = Field(default="127.0.0.1", description="The address to listen on")
    port: int = Field(default=8080, ge=0, le=65535, description="The port to listen on; 0 takes a free one")
    public_url: HttpUrl | None = Field(
        default=None, description="The root that clients see, such as https://pacs.example.org"
    )
    tokens_file: TokensFile | None = Field(
        default=None, description="One `name scopes sha256hex` a line (see reelweb token)"
    )
    auth: Annotated[Literal["none"] | None, AnyCase] = Field(
        default=None, description="`none` opens the server to everybody who reaches it"
    )
    allowed_hosts: HostNames = Field(
        default=(),
        description="Host names that are answered; unset: loopback names and that of PUBLIC_URL (DNS rebinding)",
    )
    cors_origins: Origins = Field(
        default=(), description="Origins of web pages that may read, such as https://ohif.example"
    )
    trusted_proxies: Networks = Field(
        default=(), description="Addresses and networks whose forwarded headers are believed"
    )

    # what import --url shows the other server
    import_token: str | None = Field(
        default=None, repr=False, description="The other server's token, or user:password"
    )

    # what is stored
    on_conflict: Annotated[Literal["reject", "keep", "replace"], AnyCase] = Field(
        default="reject",
        description="Another instance under a stored SOP Instance UID: refuse it, keep the first and say so, "
        "or let it take the first one's place",
    )
    allow_delete: bool = Field(
        default=False, description="DELETE of studies, series and instances; tokens need the scope delete"
    )
    grace_s: Seconds = Field(
        default=86400,
        description="Objects of deleted instances and of uploads that never ended are kept so long: "
        "longer than the longest upload, download and backup",
    )
    rendition_quota: ByteSize = Field(
        default=ByteSize(50 << 30),
        gt=0,
        description="Most bytes of what is made from instances; unused first out",
    )
    disk_reserve: ByteSize = Field(
        default=ByteSize(1 << 30),
        ge=0,
        description="Uploads are refused when the folder has less room left; of a small disk, a twentieth of it",
    )
    max_instance_bytes: ByteSize | None = Field(
        default=None, gt=0, description="A larger instance is refused; unset: no limit"
    )
    scan_header_bytes: ByteSize = Field(
        default=_mib(64), gt=0, description="Most bytes of an instance outside bulk values"
    )
    scan_elements: int = Field(default=1_000_000, gt=0, description="Most data elements in an instance")
    scan_depth: int = Field(default=64, gt=0, description="Deepest nesting of sequences in an instance")
    scan_value_bytes: ByteSize = Field(
        default=_mib(16), gt=0, description="Longest value that becomes part of the metadata"
    )
    scan_meta_bytes: ByteSize = Field(
        default=ByteSize(512 << 10), gt=0, description="Longest file meta information"
    )
    upload_metadata_bytes: ByteSize = Field(
        default=_mib(16), gt=0, description="Longest metadata of an instance that comes as DICOM JSON or XML"
    )
    upload_spool_bytes: ByteSize = Field(
        default=ByteSize(64 << 30),
        gt=0,
        description="Most bytes of a request with metadata and bulk data apart, which wait below DATA_DIR",
    )
    bulk_threshold: ByteSize = Field(
        default=ByteSize(1024), ge=0, description="Longer binary values become bulk data"
    )

    # how long, how many
    workers: int = Field(default=1, ge=1, le=64, description="Web processes")
    parts_ahead: int = Field(
        default=8,
        ge=0,
        le=1000,
        description="Instances that a web process has read and not yet kept, beyond one in each request; "
        "up to 1 MiB each",
    )
    upload_idle_timeout_s: Seconds = Field(
        default=60, description="An upload that sends nothing for so long is ended"
    )
    upload_min_rate: int = Field(
        default=500, ge=0, description="Bytes a second below which an upload is ended; 0: no limit"
    )
    max_uploads: int = Field(
        default=256, ge=1, description="Uploads at once, in each web process; others get 503 with Retry-After"
    )
    write_timeout_s: Seconds = Field(
        default=60, description="A client that takes nothing for so long is dropped"
    )
    pool_size: int = Field(
        default=10, ge=1, le=1000, description="Database connections for requests, in each web process"
    )
    acquire_timeout_s: Seconds = Field(
        default=5, description="Wait for a database connection, then answer 503"
    )
    statement_timeout_s: Seconds = Field(default=30, description="A longer database statement is ended")
    storage_threads: int = Field(
        default=8, ge=1, le=256, description="Threads that write to and read from the folder"
    )
    pixel_threads: int = Field(
        default=2, ge=1, le=64, description="Threads that decode and encode pictures, in each process"
    )
    rendition_wait_s: float = Field(
        default=5, ge=0, description="How long /rendered waits for a video in the making"
    )
    shutdown_timeout_s: Seconds = Field(
        default=10, description="Time for requests in flight at a stop, then they are cut"
    )

    # what is told
    log_level: Annotated[Literal["debug", "info", "warning", "error"], AnyCase] = Field(
        default="info", description="The least level logged"
    )
    log_format: Annotated[Literal["text", "json"], AnyCase] = Field(
        default="text", description="Log lines for people or for programs"
    )

    @field_validator("auth")
    @classmethod
    def _doors_are_closed(cls, value: str | None, info: ValidationInfo) -> str | None:
        # a tokens file that is wrong is missing here, and is told for itself
        tokens = info.data.get("tokens_file", "wrong") is not None
        if value is None and not tokens and not is_loopback(info.data.get("host", "localhost")):
            raise ValueError(
                "REELWEB_HOST is open to other machines: set REELWEB_TOKENS_FILE (see reelweb token), "
                "or REELWEB_AUTH=none to let everybody in."
            )
        if value is not None and tokens:
            raise ValueError(
                "REELWEB_AUTH=none and REELWEB_TOKENS_FILE contradict each other: set one of them."
            )
        return value

    @property
    def storage_folder(self) -> Path:
        """Where local storage keeps its objects."""
        return Path(urlsplit(self.storage_url).path) if self.storage_url else self.data_dir / "storage"

    @property
    def storage_bucket(self) -> tuple[str, str] | None:
        """Bucket and prefix, when objects are kept in S3."""
        url = urlsplit(self.storage_url or "")
        return (url.netloc, url.path.strip("/")) if url.scheme == "s3" else None
