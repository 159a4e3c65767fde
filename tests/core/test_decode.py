from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

import viommu
from tests.core.talking_toy import Event, TalkingToy
from tests.core.toy import Device, ToyDriver
from viommu.decoding import log_lines
from viommu.decoding.decode import decode_bytes, decode_log, decode_text, kind_of, kinds_to_json
from viommu.drivers import bind_plugin
from viommu.errors import BadPaste, DriverBug, UnknownKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from viommu.hookspecs import Decoded

TOY = bind_plugin(TalkingToy())

INVALIDATE = bytes.fromhex("0200000007000000" + "0050000000000000")


def raw_of(kind: str, text: str, *, msb_first: bool = False) -> bytes:
    [found] = decode_text(TOY, kind, text, msb_first=msb_first)
    return found.raw


@pytest.mark.parametrize(
    "text",
    [
        "0x0000000700000002 0x0000000000005000",
        "0000000700000002 0000000000005000",
        "0x7_0000_0002, 0x5000",
        "{0x700000002ULL, 0x5000ul}",
        "0x700000002\n0x5000\n",
        "0x00000002 0x00000007 0x00005000 0x00000000",
        "00000002 00000007 00005000 00000000",
        "02 00 00 00 07 00 00 00 00 50 00 00 00 00 00 00",
        r"\x02\x00\x00\x00\x07\x00\x00\x00\x00\x50\x00\x00\x00\x00\x00\x00",
        "02:00:00:00:07:00:00:00:00:50:00:00:00:00:00:00",
        "02000000070000000050000000000000",
        "0200 0000 0700 0000 0050 0000 0000 0000",
        "02000000070000 000050000000000000",
        "0x50000000000700000002",
        "00000000  02 00 00 00 07 00 00 00  00 50 00 00 00 00 00 00  |.........P......|\n00000010\n",
        "00000040  02 00 00 00 07 00 00 00  00 50 00 00 00 00 00 00",
        "00000000  02 00 00 00 07 00 00 00  |........|\n00000008  00 50 00 00 00 00 00 00  |.P......|",
        "00000000: 0200 0000 0700 0000 0050 0000 0000 0000  .........P......",
        "00000000: 02 00 00 00 07 00 00 00  ..\n00000008: 00 50 00 00 00 00 00 00  ab\n",
        "0x40000000:\t0x0000000700000002\t0x0000000000005000",
        "0x40000000 <ring+16>:\t0x00000002\t0x00000007\t0x00005000\t0x00000000",
        "ffff888100000000:  0000000700000002 0000000000005000   .........P......",
        "op=2 did=7 addr=0x5000",
        "Opcode = INVALIDATE_PAGES, domain_id = 7, Address = 0x5000",
        "Invalidate(Opcode=Op.INVALIDATE_PAGES, DomainID=7, Address=0x5000)",
        "Opcode=0x2 (INVALIDATE_PAGES) DomainID=7 Address=0x5000",
        "qw0=0x700000002 qw1=0x5000",
        "dw[1]=7, dw[0]=2, dw[2]=0x5000, dw[3]=0",
        "hi=0x5000 lo=0x700000002",
    ],
)
def test_a_command_is_understood_however_it_is_pasted(text: str) -> None:
    assert raw_of("command", text) == INVALIDATE


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("entry", "0x80001003", 0x80001003),
        ("entry", "80001003", 0x80001003),
        ("entry", "3", 3),
        ("entry", "0310008000000000", 0x0310008000000000),
        ("entry", "03 10 00 80 00 00 00 00", 0x80001003),
        ("CTRL", "1", 1),
        ("ctrl", "80001003", 0x80001003),
        ("CTRL", "01 00 00 00", 1),
        ("CTRL", "ENABLE=1", 1),
    ],
)
def test_how_wide_a_word_is_follows_from_what_it_is(kind: str, text: str, value: int) -> None:
    assert int.from_bytes(raw_of(kind, text), "little") == value


@pytest.mark.parametrize(
    "text",
    [
        "0x5000 0x700000002",
        "00000000 00005000 00000007 00000002",
        "00 00 00 00 00 00 50 00 00 00 00 07 00 00 00 02",
        "00000000000050000000000700000002",
    ],
)
def test_the_most_significant_may_come_first(text: str) -> None:
    assert raw_of("command", text, msb_first=True) == INVALIDATE


def test_a_star_stands_for_lines_like_the_one_before() -> None:
    text = "00000000  02 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n*\n00000020\n"

    assert raw_of("command", text) == (b"\x02" + bytes(15)) * 2


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("command", "0x1 0x2 0x3", r"'0x1 0x2 0x3': it is 24 bytes \(3 words of 64 bits\) or 12 bytes \(3 words of"),
        ("command", "0x1 0x2 0x3", "and command of toy takes 16 or 32"),
        ("event", "de ad be ef", r"'de ad be ef': it is 4 bytes \(as they are\), and event of toy takes 16"),
        ("entry", "11" * 9, r"it is 9 bytes \(as they are\), and entry of toy takes 8"),
        ("command", "0x1 0 0 0", "words may have 64 or 32 bits, and command of toy takes 16 or 32 bytes: write all"),
        ("command", "0x1 hello", "'hello': it is neither hexadecimal nor a line"),
        ("command", "0x" + "1" * 17 + " 0x2", "'1{17}': a word has at most 16 digits"),
        ("command", "1" * 33, "33 digits are no whole bytes"),
        ("command", " ,; ", "there is nothing to decode in it"),
        ("command", "00000000  02 00\nhello", "'hello': the lines before it are a hex dump's, it is not"),
        ("command", "00000000  02 00\n00000010  01 00", "its address is not 0x2, where the lines before it end"),
        ("command", "op=2 dod=7", r"'dod': it is no field of command of toy \(did you mean DomainID\?\)"),
        ("CTRL", "colour=7", r"'colour': it is no field of CTRL of toy \(it has ENABLE\)"),
        ("command", "op=2 op=3", "'op': it is given twice, as 2 and as 3"),
        ("command", "op=FLUSH", "'Opcode=FLUSH': a number is needed, or one of SYNC, INVALIDATE_PAGES"),
        ("CTRL", "ENABLE=yes", "'ENABLE=yes': a number is needed"),
        ("CTRL", "ENABLE=2", "CTRL.ENABLE .0.: 0x2 does not fit; it holds 0 to 0x1"),
        ("entry", "Address=0x1001", "0x1001 is not a multiple of 0x1000"),
        ("event", "00000001 00000002", r"it is 8 bytes \(2 words of 32 bits\), and event of toy takes 16"),
    ],
)  # fmt: skip
def test_what_cannot_be_decoded_is_told_with_size_and_bound(kind: str, text: str, message: str) -> None:
    with pytest.raises(BadPaste, match=message) as raised:
        decode_text(TOY, kind, text)
    assert "\n" not in str(raised.value)


def test_a_dump_has_an_order_of_its_own() -> None:
    with pytest.raises(BadPaste, match="cannot be most significant first"):
        decode_text(TOY, "entry", "0x1000: 0x0000000000000003", msb_first=True)


def test_a_kind_is_found_under_any_spelling_and_nearly_right_ones_are_suggested() -> None:
    assert kind_of(TOY, "Event") == "event"
    assert kind_of(TOY, "DEVICE") == "Device"
    with pytest.raises(
        UnknownKind, match=r"no kind 'comand' \(did you mean command\? .viommu decode --list toy. names all"
    ):
        kind_of(TOY, "comand")
    with pytest.raises(UnknownKind, match=r"no kind 'xyz' \(.viommu decode --list toy. names all"):
        kind_of(TOY, "xyz")


EVENT = Event(InputAddr=0x5010, RID=3, Code=4)
ONE_LINE = "toy 0: fault at 0x5010 of device 03, code 04"
WORDS = ("0x0000000000005010", "0x0000000400000003")
DMESG = ("[  12.345678] ", "[Tue Nov 25 21:00:01 2026] ", "<4>", "kern  :err   : [   12.3] ", "<4>[    1.0][    T1] ")
JOURNAL = (
    "Nov 25 21:00:01 grace kernel: ",
    "2026-11-25T21:00:01+0000 grace kernel: ",
    "2026-11-25T21:00:01,123456+00:00 ",
)


@pytest.mark.parametrize("prefix", ["", *DMESG, *JOURNAL])
def test_a_log_line_is_recognised_behind_any_time_stamp(prefix: str) -> None:
    [found] = decode_log([TOY], f"{prefix}usb 1-1: new device\n{prefix}{ONE_LINE}\n")

    assert (found.driver, found.decoded.kind, found.raw) == ("toy", "event", EVENT.encode())
    assert found.lines == (ONE_LINE,)


@pytest.mark.parametrize("prefix", ["", *DMESG, *JOURNAL])
@pytest.mark.parametrize("between", ["", "usb 1-1: reset\n", "toy 0: something else\n"])
def test_an_event_of_several_lines_is_put_together(prefix: str, between: str) -> None:
    first, second = (f"toy 0: \t{word}" for word in WORDS)
    lines = ["boot: 0", "toy 0: record received:", first, second, "usb 1-1: gone", ONE_LINE]
    text = "".join(f"{prefix}{line}\n" for line in lines)
    if between.startswith("usb"):
        text = text.replace(f"{prefix}{first}\n", f"{prefix}{between}{prefix}{first}\n")
    elif between:
        text = f"{prefix}{between}{text}"

    [found] = decode_log([TOY], text)

    assert (found.raw, found.count) == (EVENT.encode(), 2)


def test_words_without_their_source_belong_to_the_line_before() -> None:
    [found] = decode_log([TOY], f"toy 0: record received:\n  {WORDS[0]}\n  {WORDS[1]}\n")

    assert found.raw == EVENT.encode()


def test_events_are_told_once_in_order_with_their_number() -> None:
    other = ONE_LINE.replace("5010", "6010")

    found = decode_log([TOY], f"{ONE_LINE}\n{other}\nnoise\n{ONE_LINE}\n{ONE_LINE}")

    assert [(one.decoded.descriptor, one.count) for one in found] == [(EVENT, 3), (EVENT.replace(InputAddr=0x6010), 1)]


def test_a_log_may_be_pasted_where_bytes_of_its_kind_are_expected() -> None:
    assert raw_of("event", f"[ 1.0] {ONE_LINE}") == EVENT.encode()
    with pytest.raises(BadPaste, match="neither hexadecimal nor a line"):
        decode_text(TOY, "command", ONE_LINE)


class BadHooks(TalkingToy):
    def __init__(self, line: object = None, raw: bytes | None = None) -> None:
        self.line, self.raw = line, raw

    @viommu.hookimpl
    def viommu_log_line(self, line: str) -> tuple[str, bytes] | None:  # noqa: ARG002
        return self.line  # type: ignore[return-value]

    @viommu.hookimpl
    def viommu_decode(self, kind: str, raw: bytes) -> Decoded:
        return super().viommu_decode(kind, self.raw or raw)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("event", "it returned str, not a kind and bytes"),
        (("event", "00"), "it returned tuple, not a kind and bytes"),
        (("evnt", bytes(16)), "it returned 16 bytes of the kind 'evnt', which viommu_kinds does not have"),
        (("event", bytes(15)), "it returned 15 bytes of the kind 'event'"),
    ],
)
def test_a_broken_promise_about_log_lines_names_the_driver(line: object, message: str) -> None:
    with pytest.raises(DriverBug, match=f"driver toy broke its promise in viommu_log_line: {message}"):
        decode_log([bind_plugin(BadHooks(line))], "a line")


def test_an_explanation_of_other_bytes_is_a_broken_promise() -> None:
    with pytest.raises(DriverBug, match=r"viommu_decode: of entry 0{16} it made Entry 0100000000000000, other bytes"):
        decode_bytes(bind_plugin(BadHooks(raw=b"\x01" + bytes(7))), "entry", bytes(8))


def test_the_json_has_every_field_under_its_printed_name() -> None:
    shown = decode_bytes(TOY, "event", EVENT.replace(Code=4).encode()).to_json()

    assert shown == {
        "driver": "toy",
        "kind": "event",
        "name": "PERMISSION",
        "meaning": "Device 0x3 was refused 0x5010.",
        "raw": EVENT.encode().hex(),
        "words": list(WORDS),
        "layout": "Event",
        "fields": {
            "InputAddr": {"bits": "[63:0]", "value": "0x5010"},
            "RID": {"bits": "[95:64]", "value": "0x3"},
            "Code": {"bits": "[103:96]", "value": "0x4"},
        },
        "reserved_set": "0x0",
        "complaints": [],
        "causes": ["the page is not mapped for writing", "the device is another one"],
    }


def test_words_are_as_wide_as_the_bytes_allow() -> None:
    assert decode_bytes(TOY, "CTRL", bytes.fromhex("01020304")).words == ("0x04030201",)


def test_values_that_have_a_name_are_shown_with_it() -> None:
    [found] = decode_text(TOY, "command", "op=1")

    assert found.to_json()["fields"]["Opcode"] == {"bits": "[7:0]", "value": "0x1", "name": "SYNC"}


def test_all_kinds_are_listed_with_their_sizes() -> None:
    kinds: Mapping[str, list[int]] = kinds_to_json([TOY, bind_plugin(ToyDriver())])["drivers"][0]["kinds"]

    assert kinds["command"] == [16, 32]
    assert kinds["Device"] == [Device.size]


KINDS = st.sampled_from(sorted(TOY.kinds()))
PIECES = st.sampled_from(
    ["0x", "00", "deadbeef", "0x1", " ", "\n", "\t", ":", "=", ",", "*", "  ", "|", "[1]", "op", "did", "(", "UL", "_",
     "toy 0: ", "record received:", "0x0000000000005010", ONE_LINE, "[ 1.0] ", "\x00", "\u2028", "\uff11", "00000000: "]
)  # fmt: skip
TEXTS = st.text(max_size=200) | st.lists(PIECES, max_size=40).map("".join)


@given(KINDS, TEXTS, st.booleans())
def test_no_text_breaks_it(kind: str, text: str, msb_first: bool) -> None:
    try:
        for found in decode_text(TOY, kind, text, msb_first=msb_first):
            assert len(found.raw) in TOY.kinds()[kind]
    except BadPaste as error:
        assert "\n" not in str(error)  # noqa: PT017 - whether it is raised is up to the text
    for found in decode_log([TOY], text):
        assert found.decoded.kind == "event"


@given(st.binary(min_size=16, max_size=16))
def test_what_is_shown_can_be_pasted_again(raw: bytes) -> None:
    shown = decode_bytes(TOY, "command", raw)

    assert raw_of("command", " ".join(shown.words)) == raw
    assert raw_of("command", shown.raw.hex()) == raw
    assert raw_of("command", " ".join(reversed(shown.words)), msb_first=True) == raw
    assert raw_of("command", raw.hex(" ")) == raw


@pytest.mark.parametrize(
    "text",
    ["deadbeef " * 200_000, "0" * (1 << 24), "a: 00000000\n" * 50_000, "a" * 500_000 + "=1", "a=1 " * 100_000,
     ("0123456789abcdef" * 16 + "g\n") * 20_000, " " * (1 << 23), "00000000  00\n*\nffffffffffff"],
    ids=lambda text: text[:12].strip(),
)  # fmt: skip
def test_much_text_is_refused_or_read_in_bounded_time(text: str) -> None:
    assert decode_log([TOY], text) == ()
    with pytest.raises(BadPaste):
        decode_text(TOY, "command", text)


def test_patience_with_lines_that_start_nothing_ends_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "PATIENCE", 8)
    event = f"toy 0: record received:\n{WORDS[0]}\n{WORDS[1]}\n"

    with capture_logs() as logs:
        found = decode_log([TOY], event * 3 + "boot: 00000000\n" * 20 + event + ONE_LINE)

    assert [one.count for one in found] == [4]
    assert [entry["event"] for entry in logs] == ["decode.log"]


@pytest.mark.parametrize(("text", "message"), [("a" * ((1 << 24) + 1), "characters"), ("\n" * (1 << 18), "lines")])
def test_too_much_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadPaste, match=message):
        decode_log([TOY], text)
