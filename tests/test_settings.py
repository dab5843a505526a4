"""What the environment may say, and what is answered when it says something else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app import settings
from app.__main__ import commands


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.Settings.model_fields:
        monkeypatch.delenv(f"REELWEB_{name.upper()}", raising=False)


def read(monkeypatch: pytest.MonkeyPatch, **values: str) -> settings.Settings:
    for name, value in values.items():
        monkeypatch.setenv(f"REELWEB_{name}", value)
    return settings.read()


def test_without_a_word_it_serves_this_machine_only() -> None:
    """The defaults are those of the documentation, each knob described."""
    told = settings.read()
    assert (told.host, told.port, told.workers, told.on_conflict) == ("127.0.0.1", 8080, 1, "reject")
    assert told.storage_folder == Path("reelweb-data/storage")
    assert all(field.description for field in settings.Settings.model_fields.values())


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SCAN_HEADER_BYTES", "128MiB", 128 << 20),
        ("MAX_INSTANCE_BYTES", "", None),
        ("ALLOWED_HOSTS", "a.example, b.example,", ("a.example", "b.example")),
        ("TRUSTED_PROXIES", "10.0.0.0/8,::1", ("10.0.0.0/8", "::1")),
        ("PUBLIC_URL", "https://pacs.example/", "https://pacs.example"),
        ("HOST", "[::1]", "::1"),
        ("LOG_LEVEL", "INFO", "info"),
        ("AUTH", "None", "none"),
    ],
)
def test_values_are_understood(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: object
) -> None:
    """Sizes with units, lists with blanks, words in any case; an empty value is no value."""
    assert getattr(read(monkeypatch, **{name: value}), name.lower()) == expected


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"PORT": "http"}, "REELWEB_PORT"),
        *(
            ({"STORAGE_URL": url}, "must be s3://bucket/prefix or file:///folder")
            for url in ("gs://bucket/prefix", "az://container", "abfs://x", "folder", "file://host/x")
        ),
        *(
            ({"STORAGE_URL": url}, "must be s3://bucket/prefix (the prefix")
            for url in ("s3://", "s3:///x", "s3://b:1/x", "s3://b/a//b", "s3://b/../c", "s3://b/a b")
        ),
        ({"STORAGE_URL": "s3://me:geheim@bucket/x"}, "neither user"),
        ({"S3_ENDPOINT": "minio:9000"}, "REELWEB_S3_ENDPOINT: must be http"),
        ({"S3_CA_BUNDLE": "/nowhere/ca.pem"}, "REELWEB_S3_CA_BUNDLE: is not a file"),
        ({"S3_SSE": "rot13"}, "REELWEB_S3_SSE: must be 'AES256'"),
        ({"DATABASE_URL": "mysql://somebody:geheim@db/x"}, "must begin with postgresql://"),
        ({"PUBLIC_URL": "pacs.example"}, "REELWEB_PUBLIC_URL: must be http"),
        ({"CORS_ORIGINS": "https://a.example/path"}, "REELWEB_CORS_ORIGINS: must be origins"),
        ({"DATABASE_URL": "postgresql://me:geheim@[db/x"}, "REELWEB_DATABASE_URL: has a host"),
        ({"PUBLIC_URL": "https://pacs.example:geheim"}, "REELWEB_PUBLIC_URL: has a host or a port"),
        ({"PUBLIC_URL": "https://pacs.example:99999"}, "REELWEB_PUBLIC_URL: has a host or a port"),
        ({"ALLOWED_HOSTS": "https://geheim"}, "REELWEB_ALLOWED_HOSTS: must be host names"),
        ({"S3_CA_BUNDLE": __file__}, "REELWEB_S3_CA_BUNDLE: has no PEM certificate"),
        ({"TRUSTED_PROXIES": "proxy"}, "REELWEB_TRUSTED_PROXIES: must be addresses"),
        ({"TOKENS_FILE": "/nowhere/tokens"}, "REELWEB_TOKENS_FILE: is not a file"),
        ({"ON_CONFLICT": "merge"}, "REELWEB_ON_CONFLICT: must be 'reject', 'keep' or 'replace'"),
        ({"AUTH": "maybe"}, "REELWEB_AUTH: must be 'none'"),
        ({"HOST": "0.0.0.0"}, "REELWEB_HOST is open to other machines"),
        ({"HOST": "pacs.example"}, "REELWEB_HOST is open to other machines"),
    ],
)
def test_each_problem_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], told: str
) -> None:
    """The line names the setting and what it takes, and never repeats the value."""
    with pytest.raises(settings.SettingsError) as error:
        read(monkeypatch, **values)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
    assert "geheim" not in str(error.value)
    assert error.value.__context__ is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "has no token in it"),
        (b"# nobody\n\n", "has no token in it"),
        (b"ohif read geheim\n", "line 1 is not"),
        (b"\nohif geheim " + b"00" * 32, "line 2 has an unknown scope"),
        (b"\xff\xfe geheim", "is not a text file"),
    ],
)
def test_a_tokens_file_that_is_wrong_is_told_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, told: str
) -> None:
    """By its line, never by its content."""
    (tmp_path / "tokens").write_bytes(content)
    with pytest.raises(settings.SettingsError) as error:
        read(monkeypatch, TOKENS_FILE=str(tmp_path / "tokens"))
    assert str(error.value).startswith("REELWEB_TOKENS_FILE: ")
    assert told in str(error.value)
    assert "geheim" not in str(error.value)


def test_all_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody mends one setting to learn of the next."""
    with pytest.raises(settings.SettingsError) as error:
        read(monkeypatch, HOST="0.0.0.0", PORT="x", WORKERS="0")
    assert len(str(error.value).splitlines()) == 3


def test_the_door_opens_with_tokens_or_on_purpose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Other machines come in with tokens, or because AUTH=none said so, which warns; both contradict."""
    (tmp_path / "tokens").write_text(f"ohif read {'00' * 32}\n", "ascii")
    guarded = read(monkeypatch, HOST="0.0.0.0", TOKENS_FILE=str(tmp_path / "tokens"))
    assert settings.warnings(guarded, {}) == []
    with pytest.raises(settings.SettingsError, match="contradict"):
        read(monkeypatch, AUTH="none")
    monkeypatch.delenv("REELWEB_TOKENS_FILE")
    (warning,) = settings.warnings(settings.read(), {})
    assert warning.startswith("REELWEB_AUTH=none: everybody")


@pytest.mark.parametrize(
    ("url", "bucket"),
    [
        ("s3://dicom/a/b", ("dicom", "a/b")),
        ("s3://dicom/", ("dicom", "")),
        ("s3://dicom", ("dicom", "")),
        ("file:///x", None),
    ],
)
def test_a_bucket_and_its_prefix_are_read_from_the_url(
    monkeypatch: pytest.MonkeyPatch, url: str, bucket: tuple[str, str] | None
) -> None:
    assert read(monkeypatch, STORAGE_URL=url).storage_bucket == bucket


def test_settings_of_a_store_that_is_not_used_are_told() -> None:
    """A forgotten STORAGE_URL would keep patients' data where nobody looks for it."""
    (told,) = settings.warnings(settings.read(), {"REELWEB_S3_ENDPOINT": "http://127.0.0.1:9000"})
    assert "REELWEB_STORAGE_URL=s3://" in told


def test_a_mistyped_name_is_told() -> None:
    """A setting that does not exist changes nothing, and says so."""
    told = settings.warnings(settings.read(), {"REELWEB_PROT": "1", "REELWEB_PORT": "1", "OTHER": "1"})
    assert told == ["REELWEB_PROT is not a setting, REELWEB_PORT is."]


def test_secrets_stay_out_of_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password in a URL does not appear where settings are shown."""
    assert "geheim" not in repr(read(monkeypatch, DATABASE_URL="postgresql://me:geheim@db/x"))


def test_a_token_is_shown_once_with_its_line() -> None:
    """The file keeps only the digest of what the user gets."""
    made = CliRunner().invoke(commands, ["token", "ohif", "write,read"])
    secret, line = made.output.splitlines()
    assert line == f"ohif read,write {hashlib.sha256(secret.encode()).hexdigest()}"
    assert len(secret) >= 43


@pytest.mark.parametrize("arguments", [["o hif", "read"], ["ohif", "admin"], ["ohif", ""], ["", "read"]])
def test_a_token_needs_a_name_and_scopes(arguments: list[str]) -> None:
    """What would make a broken line is refused."""
    assert CliRunner().invoke(commands, ["token", *arguments]).exit_code == 1


def test_migrate_needs_a_database_service() -> None:
    """The embedded database is only reachable while it is served."""
    refused = CliRunner().invoke(commands, ["migrate"])
    assert refused.exit_code == 1
    assert "REELWEB_DATABASE_URL is not set" in refused.output
