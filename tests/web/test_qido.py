"""Searches as viewers and the Python client send them, byte for byte, through a socket."""

from __future__ import annotations

import httpx
import pytest
from dicomweb_client import DICOMwebClient

from tests import make
from tests.web import doors
from tests.web.doors import Archive

OHIF_LIST = "limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060%2C00080090%2C00100030"
OHIF_ACCEPT = "application/dicom+json"
OLD_OHIF_ACCEPT = (
    "application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*"
)
CT, MR, NAMELESS = "2.25.7101", "2.25.7102", "2.25.7103"  # fixed: they stand in the names of tests
CT_SERIES, OTHER_SERIES = "2.25.7111", "2.25.7112"
FUZZY = "The fuzzymatching parameter is not supported. Only literal matching has been performed."
EMPTY = "The emptyvaluematching parameter is not supported. Empty Value Matching has not been performed."
MULTIPLE = (
    "The multiplevaluematching parameter is not supported. Multiple Value Matching has not been performed."
)


@pytest.fixture(scope="module")
def filled(archive: Archive) -> Archive:
    """Three studies: two series of CT, one of MR, one without name and date."""
    doors.stored(
        archive.root,
        *(
            make.instance(
                StudyInstanceUID=CT,
                SeriesInstanceUID=series,
                PatientName="Müller^Jörg",
                PatientID="P 1",
                AccessionNumber="A+1",
                StudyDescription="Head 100%",
                SeriesNumber=number,
                InstanceNumber=instance,
                StudyDate="20260102",
            )
            for number, series in enumerate((CT_SERIES, OTHER_SERIES), 1)
            for instance in (1, 2)
        ),
        make.instance(StudyInstanceUID=MR, Modality="MR", PatientID="P2", StudyDate="20260101"),
        make.instance(
            StudyInstanceUID=NAMELESS, PatientID="none", PatientName="", StudyDate=None, AccessionNumber=""
        ),
    )
    return archive


def get(archive: Archive, path: str, **headers: str) -> httpx.Response:
    return doors.get(archive.root + path, headers=headers)


def found(answer: httpx.Response, tag: str = "0020000D") -> list[str]:
    assert answer.status_code == 200, answer.text
    return [row[tag]["Value"][0] for row in answer.json()]


def warnings(answer: httpx.Response) -> list[str]:
    return answer.headers.get_list("warning")


@pytest.mark.parametrize("accept", [OHIF_ACCEPT, OLD_OHIF_ACCEPT, "*/*"], ids=["new", "old", "any"])
def test_the_study_list_of_ohif_is_answered(filled: Archive, accept: str) -> None:
    """Newest first, those without a date last, with everything that its columns read."""
    answer = get(filled, f"/studies?{OHIF_LIST}", Accept=accept)
    assert found(answer) == [CT, MR, NAMELESS]
    assert answer.headers["content-type"] == "application/dicom+json"
    assert not warnings(answer)
    row = answer.json()[0]
    read = (
        "0020000D 00080020 00080030 00080050 00100020 00100010 00100030 00201208 00081030 00080061 00080090"
    )
    assert set(read.split()) <= set(row)
    assert row["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jörg"}]}
    assert (row["00201206"]["Value"], row["00201208"]["Value"]) == ([2], [4])
    assert row["00081190"]["Value"] == [f"{filled.root}/studies/{CT}"]


@pytest.mark.parametrize(
    ("query", "studies"),
    [
        ("PatientName=*m%C3%BCll*", [CT]),
        ("PatientName=*MULLER*", [CT]),
        ("PatientName=M%C3%BCller^J*", [CT]),
        ("00100010=j%C3%B6rg*", [CT]),
        ("00100020=*P2*", [MR]),
        ("PatientID=P+1", [CT]),
        ("PatientID=P%201", [CT]),
        ("PatientID=P%2B1", []),
        ("AccessionNumber=A%2B1", [CT]),
        ("AccessionNumber=A+1", []),
        ("StudyDescription=*head*", [CT]),
        ("StudyDescription=*100%25", [CT]),
        ("StudyDescription=*1_0%25", []),
        ("ModalitiesInStudy=CT%2CMR&StudyDate=20260101-", [CT, MR]),
        ("ModalitiesInStudy=CT%5CMR&StudyDate=20260101-", [CT, MR]),
        ("ModalitiesInStudy=MR", [MR]),
        ("StudyDate=20260102-20260102", [CT]),
        ("StudyDate=20260102", [CT]),
        ("StudyDate=-20260101", [MR]),
        ("StudyDate=20260101-20260102", [CT, MR]),
        (f"StudyInstanceUID={CT}%5C{MR}", [CT, MR]),
        (f"StudyInstanceUID={CT}%2C{MR}", [CT, MR]),
        (f"0020000D={CT}&0020000D=", [CT]),
        ("&PatientID=P2", [MR]),
        ("=&=x&PatientID=P2", [MR]),
        ("PatientID=P2&unknown=1&Rows=3", [MR]),
        ("PatientID=" + "P" * 65, []),
        ("PatientID=%00P2%00", [MR]),
        ("PatientName=%00&PatientID=P2", [MR]),
        ("StudyInstanceUID=1%002", []),
        ("PatientName=%FF%ED%A0%80", []),
        ("PatientName=*'%22;--%5C*", []),
        ("PatientID=P2&limit=", [MR]),
    ],
)
def test_keys_match_as_they_are_written(filled: Archive, query: str, studies: list[str]) -> None:
    assert found(get(filled, f"/studies?{query}")) == studies


@pytest.mark.parametrize(
    "path",
    [
        "/studies?PatientID=nobody",
        "/studies/1.2.3/series",
        "/studies/1.2.3/instances",
        f"/studies/{CT}/series/1.2.3/instances",
        f"/studies/{MR}/series/{CT_SERIES}/instances",
        "/studies?offset=1000",
        "/studies?offset=99999999999999999999999",
    ],
)
def test_nothing_found_is_an_empty_list(filled: Archive, path: str) -> None:
    """CP-2473."""
    answer = get(filled, path)
    assert (answer.status_code, answer.content) == (200, b"[]")
    assert answer.headers["content-type"] == "application/dicom+json"


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=x", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e3", "limit"),
        ("limit=%00", "limit"),
        ("offset=1.5", "offset"),
        ("StudyDate=2026-01-01", "StudyDate"),
        ("00080020=-", "StudyDate"),
        ("StudyTime=99", "StudyTime"),
        ("0010=1", "0010"),
        ("00100010.=1", "00100010."),
    ],
)
def test_what_cannot_be_read_is_told_by_its_name(filled: Archive, query: str, parameter: str) -> None:
    assert parameter in doors.is_problem(get(filled, f"/studies?{query}"), 400)


@pytest.mark.parametrize(
    ("query", "rows", "warning"),
    [
        ("limit=1", 1, ["There are 2 additional results that can be requested"]),
        ("limit=0", 0, ["There are 3 additional results that can be requested"]),
        ("limit=1&offset=1", 1, ["There are 1 additional results that can be requested"]),
        ("limit=2&offset=1", 2, []),
        ("limit=3", 3, []),
        ("limit=999999999999999999999", 3, []),
        ("fuzzymatching=true", 3, [FUZZY]),
        ("fuzzymatching=false", 3, []),
        (
            "limit=1&fuzzymatching=true&emptyvaluematching=true&multiplevaluematching=true",
            1,
            [
                "There are 2 additional results that can be requested",
                FUZZY,
                EMPTY,
                MULTIPLE,
            ],
        ),
    ],
)
def test_a_page_tells_what_it_leaves_out(filled: Archive, query: str, rows: int, warning: list[str]) -> None:
    answer = get(filled, f"/studies?{query}")
    assert len(answer.json()) == rows
    assert warnings(answer) == [f'299 {filled.root} "{text}"' for text in warning]


@pytest.mark.parametrize(
    "fields",
    [
        "includefield=StudyDescription&includefield=PatientAge",
        "includefield=00081030,00101010",
        "includefield=StudyDescription%2CPatientAge",
        "includefield=all",
        "includefield=StudyDescription&includefield=nonsense&includefield=00400275.00400009&includefield=",
    ],
)
def test_fields_are_included_however_they_are_asked_for(filled: Archive, fields: str) -> None:
    """Unknown ones and those of another level cost nothing."""
    (row,) = get(filled, f"/studies?PatientID=P+1&{fields}").json()
    assert row["00081030"] == {"vr": "LO", "Value": ["Head 100%"]}


def test_a_field_that_is_not_asked_for_is_not_told(filled: Archive) -> None:
    (row,) = get(filled, "/studies?PatientID=P+1").json()
    assert "00081030" not in row


def test_the_series_of_a_study_are_found_with_what_ohif_reads(filled: Archive) -> None:
    answer = get(filled, f"/studies/{CT}/series?includefield=00080021%2C00080031%2C0008103E%2C00200011")
    assert found(answer, "0020000E") == [CT_SERIES, OTHER_SERIES]
    row = answer.json()[0]
    assert row["00080060"] == {"vr": "CS", "Value": ["CT"]}
    assert row["00201209"]["Value"] == [2]
    assert row["00081190"]["Value"] == [f"{filled.root}/studies/{CT}/series/{CT_SERIES}"]


def test_the_fallback_thumbnail_of_ohif_finds_one_instance(filled: Archive) -> None:
    answer = get(filled, f"/studies/{CT}/series/{CT_SERIES}/instances?limit=1&includefield=00080018")
    (row,) = answer.json()
    assert doors.get(row["00081190"]["Value"][0]).status_code == 200


@pytest.mark.parametrize(
    ("path", "parents"),
    [
        ("/series?Modality=MR", {"00100010", "00201206"}),
        ("/instances?Modality=MR", {"00100010", "00200011"}),
        (f"/studies/{MR}/instances", {"00200011"}),
    ],
)
def test_a_relational_search_tells_what_its_address_leaves_open(
    filled: Archive, path: str, parents: set[str]
) -> None:
    (row,) = get(filled, path).json()
    assert parents <= set(row)
    assert row["0020000D"]["Value"] == [MR]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "application/dicom+json"),
        ("application/json", "application/json"),
        ("application/dicom+json, application/json", "application/dicom+json"),
        ("application/json;q=0.9, application/dicom+json;q=0.1", "application/json"),
        ('multipart/related; type="application/dicom+xml", application/dicom+json', "application/dicom+json"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/dicom+json"),
    ],
)
def test_answers_are_dicom_json_or_json(filled: Archive, accept: str, content_type: str) -> None:
    assert get(filled, "/studies", Accept=accept).headers["content-type"] == content_type


@pytest.mark.parametrize(
    "accept", ['multipart/related; type="application/dicom+xml"', "application/dicom+xml", "image/jpeg"]
)
def test_xml_is_not_made_here(filled: Archive, accept: str) -> None:
    doors.is_problem(get(filled, "/studies", Accept=accept), 406)


def test_the_accept_parameter_goes_before_the_header(filled: Archive) -> None:
    answer = get(filled, "/studies?accept=application/json", Accept="application/dicom+xml")
    assert answer.headers["content-type"] == "application/json"


def test_head_is_get_without_a_body(filled: Archive) -> None:
    whole, head = get(filled, "/studies"), doors.head(f"{filled.root}/studies")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))


def test_the_python_client_finds_and_pages(filled: Archive) -> None:
    client = DICOMwebClient(f"{filled.url}/dicom-web")
    every = client.search_for_studies(limit=2, get_remaining=True)
    assert [row["0020000D"]["Value"][0] for row in every] == [CT, MR, NAMELESS]
    told = client.search_for_series(
        CT, fields=["SeriesDescription", "Modality"], search_filters={"Modality": "CT"}
    )
    assert [row["0020000E"]["Value"][0] for row in told] == [CT_SERIES, OTHER_SERIES]
    assert len(client.search_for_instances(CT, CT_SERIES)) == 2


def test_a_host_of_another_name_is_repeated_and_never_remembered(filled: Archive) -> None:
    """Rows hold addresses of the host that was asked, and of no other."""
    mine = get(filled, "/studies", Host="localhost:81").json()
    assert mine[0]["00081190"]["Value"] == [f"http://localhost:81/dicom-web/studies/{CT}"]
    assert "localhost" not in get(filled, "/studies").text
