import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import NotAcceptable
from app.web import accept
from app.web.accept import ANY, Offer

LITTLE = "1.2.840.10008.1.2.1"
JPEG = "1.2.840.10008.1.2.4.50"
JLS = "1.2.840.10008.1.2.4.80"
J2K = "1.2.840.10008.1.2.4.90"
OCTETS = "application/octet-stream"

MANY = Offer("application/dicom", ANY, multipart=True)
ONE = Offer("application/dicom", ANY)
INSTANCE = [MANY, ONE]

METADATA = [Offer("application/dicom+json"), Offer("application/json")]

RENDERED = [Offer("image/jpeg"), Offer("image/png")]
AVC, HEVC = Offer("video/mp4", codecs="avc1.640028, mp4a.40.2"), Offer("video/mp4", codecs="hvc1.1.6.L93.B0")
NAMED_HEVC = Offer("video/H265")
VIDEO = [AVC, HEVC, NAMED_HEVC]

STORED = Offer("image/jls", JLS, multipart=True, also=OCTETS)
STORED_SINGLE = Offer("image/jls", JLS, also=OCTETS)
DECODED = Offer(OCTETS, LITTLE, multipart=True)
DECODED_SINGLE = Offer(OCTETS, LITTLE)
FRAMES = [STORED, DECODED, STORED_SINGLE, DECODED_SINGLE]


def chosen(header: str, offers: list[Offer], *parameters: str) -> Offer:
    return accept.choose(accept.asked([header] if header else [], parameters), offers).offer


@pytest.mark.parametrize(
    ("header", "offers", "offer"),
    [
        ("", INSTANCE, MANY),
        ("*/*", INSTANCE, MANY),
        ('multipart/related; type="application/dicom"', INSTANCE, MANY),
        ('multipart/related; type="application/dicom"; transfer-syntax=*', INSTANCE, MANY),
        ("multipart/related;type=application/dicom;transfer-syntax=%2A", INSTANCE, MANY),
        ("multipart/related", INSTANCE, MANY),
        ("multipart/*", INSTANCE, MANY),
        ("application/dicom", INSTANCE, ONE),
        ("application/*", INSTANCE, ONE),
        ("application/dicom; transfer-syntax=" + JPEG, INSTANCE, ONE),
        ('multipart/related; type="application/dicom";q=0.5, application/dicom', INSTANCE, ONE),
        ("text/html, application/xhtml+xml, */*;q=0.8", INSTANCE, MANY),
        # OHIF: metadata, plain and with a client header that the browser joins to it
        ("application/dicom+json", METADATA, METADATA[0]),
        (
            f"application/dicom+json, multipart/related; type={OCTETS}; transfer-syntax=*",
            METADATA,
            METADATA[0],
        ),
        (
            f"multipart/related; type={OCTETS}; transfer-syntax=*, application/dicom+json",
            METADATA,
            METADATA[0],
        ),
        # the Python client
        ("application/dicom+json, application/json", METADATA, METADATA[0]),
        ("application/json", METADATA, METADATA[1]),
        ("application/json, text/plain, */*", METADATA, METADATA[1]),
        ("application/dicom+json; charset=utf-8", METADATA, METADATA[0]),
        ("APPLICATION/DICOM+JSON", METADATA, METADATA[0]),
        # frames
        (f"multipart/related; type={OCTETS}; transfer-syntax=*", FRAMES, STORED),
        (f'multipart/related; type="{OCTETS}"; transfer-syntax="*"', FRAMES, STORED),
        (f'multipart/related; type="{OCTETS}"', FRAMES, DECODED),
        (f'multipart/related; type="{OCTETS}"; transfer-syntax={LITTLE}', FRAMES, DECODED),
        (
            f'multipart/related; type="image/jls"; transfer-syntax="{JLS}"; transfer-syntax="*"',
            FRAMES,
            STORED,
        ),
        ('multipart/related; type="image/x-jls"', FRAMES, STORED),
        ('multipart/related; type="*/*"', FRAMES, STORED),
        ('multipart/related; type="*/*"; transfer-syntax=*', FRAMES, STORED),
        ('multipart/related; type="image/*"', FRAMES, STORED),
        ("*/*", FRAMES, STORED),
        ("image/*", FRAMES, STORED_SINGLE),
        (OCTETS, FRAMES, DECODED_SINGLE),
        (f"{OCTETS}; transfer-syntax=*", FRAMES, STORED_SINGLE),
        (f'multipart/related; type="image/jp2", multipart/related; type="{OCTETS}";q=0.1', FRAMES, DECODED),
        # browsers
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", RENDERED, RENDERED[0]),
        ("image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", RENDERED, RENDERED[1]),
        ("image/*;q=0.5, image/jpeg;q=0.1", RENDERED, RENDERED[1]),
        ("image/jpeg;q=0, */*", RENDERED, RENDERED[1]),
        ("image/png, */*", RENDERED, RENDERED[1]),
        ("image/jpg", RENDERED, RENDERED[0]),
        ("image/png;q=nonsense, image/jpeg;q=0.9", RENDERED, RENDERED[1]),
        ("image/png;q=7, image/jpeg;q=nan", RENDERED, RENDERED[0]),
        # players
        ("*/*", VIDEO, AVC),
        ("video/mp4", VIDEO, AVC),
        ("video/webm,video/ogg,video/*;q=0.9,application/ogg;q=0.7,audio/*;q=0.6,*/*;q=0.5", VIDEO, AVC),
        ('video/mp4; codecs="hev1.1.6.L120.90"', VIDEO, HEVC),
        ('video/mp4; codecs="avc3.42E01E, mp4a.40.2"', VIDEO, AVC),
        ("video/H265", VIDEO, NAMED_HEVC),
        ("video/mpeg2", [Offer("video/mpeg")], Offer("video/mpeg")),
    ],
)
def test_the_client_gets_what_it_likes_best(header: str, offers: list[Offer], offer: Offer) -> None:
    assert chosen(header, offers) == offer


@pytest.mark.parametrize(
    ("parameter", "offers", "offer"),
    [
        ("image/png", RENDERED, RENDERED[1]),
        ("application/dicom+json", METADATA, METADATA[0]),
        ("application/dicom json", METADATA, METADATA[0]),
        ('multipart/related; type="application/dicom"', INSTANCE, MANY),
        ("application/dicom", INSTANCE, ONE),
    ],
)
def test_the_parameter_overrides_the_header(parameter: str, offers: list[Offer], offer: Offer) -> None:
    """A plus in an address may arrive as a blank."""
    assert chosen("text/html", offers, parameter) == offer


def test_an_empty_parameter_asks_for_nothing() -> None:
    assert chosen("image/png", RENDERED, "") == RENDERED[1]


@pytest.mark.parametrize(
    ("header", "offers"),
    [
        ("image/jpeg;q=0", RENDERED[:1]),
        ("text/html", RENDERED),
        ("garbage", RENDERED),
        ("application/dicom", [MANY]),
        ('multipart/related; type="application/dicom"', [ONE]),
        (f"{OCTETS}; transfer-syntax={J2K}", FRAMES),
        ('multipart/related; type="image/jp2"', FRAMES),
        ('video/mp4; codecs="av01.0.05M.08"', VIDEO),
        ("*/*;q=0", METADATA),
        ("*/*", []),
    ],
)
def test_what_cannot_be_made_is_refused(header: str, offers: list[Offer]) -> None:
    with pytest.raises(NotAcceptable):
        chosen(header, offers)


def test_a_refusal_tells_what_could_be_had() -> None:
    with pytest.raises(NotAcceptable) as refusal:
        chosen("text/html", [STORED, DECODED_SINGLE, HEVC, MANY])
    assert str(refusal.value).endswith(
        'There is: multipart/related; type="image/jls"; transfer-syntax=1.2.840.10008.1.2.4.80, '
        "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1, "
        'video/mp4; codecs="hvc1.1.6.L93.B0", multipart/related; type="application/dicom".'
    )


def test_a_syntax_only_named_is_not_given_unasked() -> None:
    """Explicit little endian answers a client that names no syntax, but `*` gets what is stored."""
    stored, plain = Offer("application/dicom", J2K, unnamed=False), Offer("application/dicom", LITTLE)
    offers = [stored, plain]
    assert chosen("application/dicom", offers) == plain
    assert chosen("application/dicom; transfer-syntax=*", offers) == stored
    assert chosen(f"application/dicom; transfer-syntax={J2K}", offers) == stored
    assert chosen("*/*", offers) == stored
    assert chosen(f"application/dicom;transfer-syntax={J2K};q=0.2, application/dicom;q=0.1", offers) == stored


@pytest.mark.parametrize(
    ("header", "syntaxes"),
    [
        ("application/dicom", ()),
        ("*/*", (ANY,)),
        ("application/*", (ANY,)),
        ("application/dicom; transfer-syntax=*", (ANY,)),
        (f"application/dicom; transfer-syntax={JPEG}; transfer-syntax=%2A", (JPEG, ANY)),
        (f"application/dicom;transfer-syntax={JPEG}, application/dicom;transfer-syntax={J2K}", (JPEG, J2K)),
        (f"application/dicom;transfer-syntax={JPEG}, application/dicom", ()),
    ],
)
def test_a_study_learns_which_syntaxes_were_named(header: str, syntaxes: tuple[str, ...]) -> None:
    choice = accept.choose(accept.asked([header]), [ONE])
    assert choice.transfer_syntaxes == syntaxes
    assert choice.admits(JPEG) is (not syntaxes or ANY in syntaxes or JPEG in syntaxes)
    assert choice.admits(LITTLE) is (not syntaxes or ANY in syntaxes)


def test_a_thumbnail_survives_a_multipart_accept() -> None:
    """OHIF asks for it like for bulk data and takes the picture all the same."""
    accepted = accept.asked([f'multipart/related; type="{OCTETS}"'])
    assert accept.choose(accepted, RENDERED, otherwise=RENDERED[0]).offer == RENDERED[0]


def test_several_headers_are_one_list() -> None:
    accepted = accept.asked(["text/html;q=0.1", "image/png"])
    assert accept.choose(accepted, RENDERED).offer == RENDERED[1]


def test_a_player_is_recognised_by_the_types_it_names() -> None:
    assert accept.names(accept.asked(["video/webm, */*;q=0.5"]), "video/")
    assert not accept.names(accept.asked(["*/*"]), "video/")
    assert not accept.names(accept.asked(["video/mp4;q=0"]), "video/")


def test_an_answer_says_what_it_is() -> None:
    assert STORED.content_type == f"image/jls; transfer-syntax={JLS}"
    assert HEVC.content_type == 'video/mp4; codecs="hvc1.1.6.L93.B0"'
    assert MANY.content_type == "application/dicom"


pieces = st.sampled_from(
    [
        *'/;=,"\\ *+%',
        "multipart/related",
        "type=",
        "application/dicom",
        "transfer-syntax=",
        "q=0",
        ".5",
        "image/",
        "codecs=",
    ]
)


@given(st.text() | st.lists(pieces).map("".join))
def test_no_header_is_an_error(header: str) -> None:
    for offers in (INSTANCE, METADATA, FRAMES, RENDERED, VIDEO):
        for accepted in (accept.asked([header]), accept.asked([], [header])):
            assert accept.choose(accepted, offers, otherwise=ONE).offer in [*offers, ONE]


def test_a_hostile_header_takes_no_time() -> None:
    for header in (
        '"' * 60_000,
        '"\\' * 30_000,
        "a/b;" * 15_000,
        "," * 60_000,
        'a/b;c="' * 8_000,
        "\\" * 60_000,
    ):
        assert accept.choose(accept.asked([header]), RENDERED, otherwise=ONE).offer == ONE


@given(st.sampled_from([*FRAMES, *RENDERED, *METADATA, *VIDEO]))
def test_what_a_refusal_names_can_be_had(offer: Offer) -> None:
    assert chosen(str(offer), [*FRAMES, *RENDERED, *METADATA, *VIDEO]) == offer
